"""Updates within the caller's autocast: as outside of it, or refused where the policy acts otherwise within it."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from bandit import (
    Actor,
    Critic,
    acted,
    as_float,
    assert_same,
    divergence,
    everything,
    make_algorithm,
    observations,
    rollout,
    update,
)
from tianshou.data import Batch
from torch import Tensor, nn
from torch.distributions import Categorical

from trpo_ts.critics import GaussNewtonFit, LBFGSFit
from trpo_ts.solver import trust_region_update

pytestmark = pytest.mark.usefixtures("seeded")


class Insensitive(Actor):
    """Leaves the autocast around it itself."""

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        with torch.autocast("cpu", enabled=False):
            return super().forward(obs, state, info)


def bfloat16(enabled: bool = True) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


def test_float16_is_no_rounding_of_float32_either():
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(ValueError, match=r"got torch\.float16 on cpu"):
        update(algorithm, buffer)


@pytest.mark.parametrize("late", [True, False])
def test_a_policy_that_acts_otherwise_within_it_is_refused_before_anything_changes(late: bool):
    algorithm = make_algorithm(return_scaling=True)
    buffer = rollout(algorithm.policy, observations())
    if late:
        update(algorithm, buffer)
    before = everything(algorithm)
    with bfloat16():
        with pytest.raises(ValueError, match=r"policy must not depend on torch\.autocast .* torch\.bfloat16 on cpu"):
            update(algorithm, buffer)
        assert torch.is_autocast_enabled("cpu")
    assert_same(everything(algorithm), before)
    assert update(algorithm, buffer) is not None


@pytest.mark.parametrize("fit", [None, GaussNewtonFit(), LBFGSFit(2)], ids=repr)
def test_a_policy_that_does_not_is_updated_as_outside(fit: Any):
    """Also the critic: nobody acts by it, so half precision would only make its values worse."""
    ends = []
    for within in (False, True):
        torch.manual_seed(0)
        algorithm = make_algorithm(Insensitive(), Critic(), critic_fit=fit)
        buffer = rollout(algorithm.policy, observations())
        recorded = buffer.sample(0)[0].obs
        with bfloat16(within):
            before = acted(algorithm.policy, recorded)
            stats = update(algorithm, buffer)
            true = divergence(before, acted(algorithm.policy, recorded))
            assert torch.is_autocast_enabled("cpu") is within
        assert stats.accepted
        assert true == pytest.approx(stats.kl.mean, rel=1e-3)
        ends.append(everything(algorithm))
    assert_same(*ends)


def test_an_autocast_within_the_network_is_the_networks():
    class Half(Actor):
        def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
            with bfloat16():
                mean = self.net(as_float(obs)).float()
            with torch.autocast("cpu", enabled=False):
                return (mean, self.log_std.exp().expand_as(mean)), state

    algorithm = make_algorithm(Half())
    buffer = rollout(algorithm.policy, observations())
    recorded = buffer.sample(0)[0].obs
    before = acted(algorithm.policy, recorded)
    with bfloat16():
        stats = update(algorithm, buffer)
    assert divergence(before, acted(algorithm.policy, recorded)) == pytest.approx(stats.kl.mean, rel=0.02)


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Linear(4, 2)

    def forward(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.logits(obs).float())


def test_in_a_loop_of_ones_own():
    policy, obs = Policy(), torch.randn(64, 4)
    act, before = policy(obs).sample(), copy.deepcopy(policy.state_dict())
    with bfloat16(), pytest.raises(ValueError, match=r"policy must not depend on torch\.autocast"):
        trust_region_update(policy, obs, act, obs[:, 0])
    assert_same(policy.state_dict(), before)
    assert trust_region_update(policy, obs, act, obs[:, 0]).accepted


@pytest.mark.parametrize("enabled", [True, False])
def test_what_autocast_has_converted_before_an_update_is_not_used_after_it(enabled: bool):
    """Acting would continue with the old weights until the outermost context is left."""

    class Half(Actor):
        def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
            with bfloat16():
                mean = self.net(as_float(obs))
            with torch.autocast("cpu", enabled=False):
                mean = mean.float()
                return (mean, self.log_std.exp().expand_as(mean)), state

    class HalfCritic(Critic):
        def forward(self, obs: Any) -> Tensor:
            with bfloat16():
                return super().forward(obs).float()

    def act(algorithm: Any, recorded: Any) -> Any:
        return algorithm.policy(Batch(obs=recorded, info=Batch())).dist  # with gradients, so that weights are kept

    ends = []
    for within in (False, True):
        torch.manual_seed(0)
        algorithm = make_algorithm(Half(), HalfCritic())
        buffer = rollout(algorithm.policy, observations())
        recorded = buffer.sample(0)[0].obs
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled) if within else nullcontext():
            before = act(algorithm, recorded)
            kept = torch.is_autocast_cache_enabled()
            stats = update(algorithm, buffer)
            assert torch.is_autocast_cache_enabled() is kept
            true = divergence(before, act(algorithm, recorded))
        assert stats.accepted
        assert true == pytest.approx(stats.kl.mean, rel=0.02)
        ends.append(everything(algorithm))
    assert_same(*ends)
