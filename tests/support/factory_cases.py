"""Spaces, observations and what is asked of layers, for the factories of policies and critics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.data import Batch
from torch import nn

OBS = spaces.Box(-np.inf, np.inf, (5,))
BOUNDED = spaces.Box(np.array([-2.0, 0.0], dtype=np.float32), np.array([2.0, 10.0], dtype=np.float32))
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))
DISCRETE = spaces.Discrete(4)
actions = pytest.mark.parametrize(
    "action_space", [BOUNDED, UNBOUNDED, DISCRETE], ids=["bounded", "unbounded", "discrete"]
)


def observations(rows: int, space: spaces.Box = OBS) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, *space.shape)).astype(np.float32)


def act_on(policy: nn.Module, obs: np.ndarray) -> Batch:
    with torch.no_grad():
        return policy(Batch(obs=obs, info=Batch()))


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def assert_orthogonal(layer: nn.Linear, gain: float) -> None:
    weight = layer.weight.detach().double()
    product = weight @ weight.mT if weight.shape[0] <= weight.shape[1] else weight.mT @ weight
    torch.testing.assert_close(product, gain**2 * torch.eye(len(product)).double(), rtol=0, atol=1e-5 * gain**2)
