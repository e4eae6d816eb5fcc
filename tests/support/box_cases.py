"""Policies of a Box of actions with each distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.data import Batch
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor
from torch.distributions import Distribution

from trpo_ts.policy_map import PolicyMap

OBS = spaces.Box(-np.inf, np.inf, (3,))
BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "least std": {"min_std": 0.2},
    "state-dependent std": {"std": "state_dependent"},
    "squashed": {"distribution": "squashed_gaussian"},
    "beta": {"distribution": "beta"},
    "gsde": {"distribution": "gsde"},
}
distributions = pytest.mark.parametrize("name", DISTRIBUTIONS)


def observations(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


def distribution_of(policy: Any, obs: Tensor) -> Distribution:
    with torch.no_grad():
        return PolicyMap(policy)(obs, Batch())


def sample_of(policy: Any, obs: Tensor) -> Tensor:
    with policy_within_training_step(policy), torch.no_grad():
        return policy(Batch(obs=obs, info=Batch())).act
