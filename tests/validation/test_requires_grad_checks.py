"""Networks that freeze or unfreeze parameters in their forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bandit import (
    Actor,
    Critic,
    assert_same,
    everything,
    make_algorithm,
    observations,
    rollout,
    update,
    update_and_measure,
)
from torch import Tensor, nn
from torch.distributions import Categorical

from trpo_ts.critics import GaussNewtonFit, LBFGSFit
from trpo_ts.solver import trust_region_update

pytestmark = pytest.mark.usefixtures("seeded")


class Toggling(Actor):
    """Sets whether its first layer takes a gradient, before and after its forward pass."""

    def __init__(self, before: bool, after: bool) -> None:
        super().__init__()
        self.flags = before, after

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        self.net[0].requires_grad_(self.flags[0])
        found = super().forward(obs, state, info)
        self.net[0].requires_grad_(self.flags[1])
        return found


@pytest.mark.parametrize(("flags", "frozen"), [((False, True), True), ((False, True), False), ((False, False), False)])
def test_a_policy_that_does_is_refused_by_name_and_its_flags_are_put_back(flags: tuple[bool, bool], frozen: bool):
    actor = Toggling(*flags)
    algorithm = make_algorithm(actor)
    buffer = rollout(algorithm.policy, observations())
    actor.net[0].requires_grad_(not frozen)
    before, required = everything(algorithm), [p.requires_grad for p in algorithm.parameters()]
    with pytest.raises(ValueError, match=r"policy must not call requires_grad_\(\) in forward\(\)"):
        update(algorithm, buffer)
    assert [p.requires_grad for p in algorithm.parameters()] == required
    assert_same(everything(algorithm), before)


@pytest.mark.parametrize("flag", [True, False])
def test_flags_that_stay_as_they_are_are_no_error(flag: bool):
    actor = Toggling(flag, flag)
    actor.net[0].requires_grad_(flag)
    first = actor.net[0].weight.clone()
    stats, true = update_and_measure(make_algorithm(actor), observations())
    assert stats.accepted
    assert true == pytest.approx(stats.kl.mean, rel=1e-3)
    assert torch.equal(actor.net[0].weight, first) is not flag


class TogglingCritic(Critic):
    def forward(self, obs: Any) -> Tensor:
        self.hidden.requires_grad_(False)
        values = super().forward(obs)
        self.hidden.requires_grad_(True)
        return values


def test_a_critic_that_does_is_refused_by_the_fit_that_cannot_follow():
    algorithm = make_algorithm(critic=TogglingCritic(), critic_fit=GaussNewtonFit())
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"critic must not call requires_grad_\(\) in forward\(\)"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


@pytest.mark.parametrize("fit", [None, LBFGSFit(2)], ids=repr)
def test_other_fits_do_as_the_critic_says(fit: Any):
    critic = TogglingCritic()
    algorithm = make_algorithm(critic=critic, critic_fit=fit)
    hidden, last = critic.hidden.weight.clone(), critic.last.weight.clone()
    assert update(algorithm, rollout(algorithm.policy, observations())).accepted
    assert torch.equal(critic.hidden.weight, hidden)
    assert not torch.equal(critic.last.weight, last)


def test_in_a_loop_of_ones_own():
    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, obs: Tensor) -> Categorical:
            self.first.requires_grad_(False)
            hidden = torch.tanh(self.first(obs))
            self.first.requires_grad_(True)
            return Categorical(logits=self.last(hidden))

    policy, obs = Policy(), torch.randn(64, 4)
    with pytest.raises(ValueError, match=r"module must not call requires_grad_\(\)"):
        trust_region_update(policy, obs, policy(obs).sample(), obs[:, 0])
