"""Standard deviations near the rounding of the means: what the reported divergence is of, and how close it can be."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from trpo_ts.solver import trust_region_update

ROWS, WIDTH = 256, 2


class Precise(nn.Module):
    """A Gaussian policy with means of about 0.3."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, WIDTH))
        self.log_std = nn.Parameter(torch.full((WIDTH,), math.log(std)))

    def forward(self, obs: Tensor) -> Independent:
        mean = self.net(obs)
        return Independent(Normal(mean, self.log_std.exp().expand_as(mean)), 1)


def divergence(before: nn.Module, after: nn.Module, obs: Tensor) -> float:
    """Return the mean divergence of the policies as they act: outputs in their precision, the rest in float64."""
    with torch.no_grad():
        old, new = (
            Independent(Normal(policy.base_dist.loc.double(), policy.base_dist.scale.double()), 1)
            for policy in (before(obs), after(obs))
        )
        return float(kl_divergence(old, new).mean())


def step_of(std: float, dtype: torch.dtype, seed: int) -> tuple[Any, float, float]:
    """Return the step, the divergence from outside, and by how much rounding of the means can change its root."""
    torch.manual_seed(seed)
    policy, obs, adv = Precise(std).to(dtype), torch.randn(ROWS, 3, dtype=dtype), torch.randn(ROWS, dtype=dtype)
    with torch.no_grad():
        act, size = policy(obs).sample(), float(policy.net(obs).abs().max())
    before = copy.deepcopy(policy)
    step = trust_region_update(policy, obs, act, adv)
    # KL = sum over components of (difference of the means / std)^2 / 2, for equal deviations.
    return step, divergence(before, policy, obs), 4 * torch.finfo(dtype).eps * size / std * math.sqrt(WIDTH / 2)


@pytest.mark.parametrize("std", [1e-2, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
def test_the_reported_divergence_is_that_of_the_outputs_up_to_their_rounding(std: float):
    for seed in range(3):
        step, achieved, rounding = step_of(std, torch.float32, seed)
        assert math.sqrt(step.kl) == pytest.approx(math.sqrt(achieved), abs=rounding + 1e-6)
        assert step.kl <= 0.01


@pytest.mark.parametrize("std", [1e-4, 1e-6, 1e-8])
def test_in_float64_it_is_exact_at_such_deviations_too(std: float):
    for seed in range(3):
        step, achieved, _ = step_of(std, torch.float64, seed)
        assert step.accepted
        assert step.kl == pytest.approx(achieved, rel=1e-6)
