"""Categorical components and the enumeration of their actions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from dense import generator
from torch import Tensor
from torch.distributions import Independent, Normal

from trpo_ts.policies import Product
from trpo_ts.policies.categorical import JointCategorical

NVECS = [np.array(4), np.array([3, 3]), np.array([2, 3, 1, 4]), np.array([[2, 3], [4, 1]]), np.full((2, 2), 2)]
nvecs = pytest.mark.parametrize("nvec", NVECS, ids=lambda nvec: str(nvec.tolist()))


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def all_actions(nvec: np.ndarray) -> Tensor:
    """Return all actions, shape ``(S, 1, *nvec.shape)``."""
    actions = list(itertools.product(*(range(n) for n in nvec.ravel())))
    return torch.tensor(actions).reshape(len(actions), 1, *nvec.shape)


def probabilities(nvec: np.ndarray, logits: Tensor) -> Tensor:
    """Return the probability of each action for one row of logits, by the literal product; shape ``(S,)``."""
    components = [part.softmax(-1) for part in logits.split(nvec.ravel().tolist())]
    return torch.stack([torch.stack(p).prod() for p in itertools.product(*components)])


def random_mask(nvec: np.ndarray, seed: int) -> Tensor:
    """Return which categories are invalid, at least one of each component valid; shape ``(nvec.sum(),)``."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in nvec.ravel():
        invalid = rng.random(n) < 0.5
        invalid[rng.integers(n)] = False
        parts.append(invalid)
    return torch.as_tensor(np.concatenate(parts))


def mixed(rows: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Product:
    outputs = random_logits(rows, 9, seed=seed).to(dtype)
    gaussian = Independent(Normal(outputs[:, :2], outputs[:, 2:4].exp()), 1)
    return Product([gaussian, JointCategorical(np.array([2, 3]))(outputs[:, 4:])])
