"""A critic whose parameters are not those of its optimiser would not be fitted: it is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bandit import Actor, Critic, assert_same, everything, make_algorithm, observations, rollout, update
from tianshou.algorithm.optim import AdamOptimizerFactory, OptimizerFactory
from torch import nn
from torch.nn.utils import parametrizations

from trpo_ts import TRPO
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit

pytestmark = pytest.mark.usefixtures("seeded")


def replace_critic(algorithm: TRPO) -> None:
    algorithm.critic = Critic()


def replace_layer(algorithm: TRPO) -> None:
    algorithm.critic.last = nn.Linear(16, 1)


def replace_parameter(algorithm: TRPO) -> None:
    algorithm.critic.last.weight = nn.Parameter(torch.zeros(1, 16))


def add_parameter(algorithm: TRPO) -> None:
    algorithm.critic.register_parameter("shift", nn.Parameter(torch.zeros(1)))


def reparametrise(algorithm: TRPO) -> None:
    parametrizations.weight_norm(algorithm.critic.last)


CHANGES: dict[str, tuple[Callable[[TRPO], None], str]] = {
    "critic": (replace_critic, r"got hidden\.weight, hidden\.bias, last\.weight, last\.bias, which"),
    "layer": (replace_layer, r"got last\.weight, last\.bias, which"),
    "parameter": (replace_parameter, r"got last\.weight, which"),
    "addition": (add_parameter, r"got shift, which"),
    "parametrisation": (reparametrise, r"got last\.parametrizations\.weight\.original0, "),
}


@pytest.mark.parametrize("fit", [None, MinibatchFit(1, 64), GaussNewtonFit(), LBFGSFit(2)], ids=repr)
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("updated", [True, False])
def test_what_was_replaced_or_added_is_refused_before_anything_changes(name: str, fit: Any, updated: bool):
    change, words = CHANGES[name]
    algorithm = make_algorithm(critic=Critic(), critic_fit=fit, return_scaling=True)
    buffer = rollout(algorithm.policy, observations())
    if updated:
        update(algorithm, buffer)
    change(algorithm)
    before = everything(algorithm)
    with pytest.raises(ValueError, match=f"critic must have the parameters that its optimiser was built with, {words}"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


class OnlyTrainable(OptimizerFactory):
    """Gives the optimiser the parameters that are not frozen, or the last of them."""

    def __init__(self, last: int = 0) -> None:
        super().__init__()
        self.last = last

    def _create_optimizer_for_params(self, params: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in params if p.requires_grad][-self.last :], lr=1e-2)


def test_parameters_that_are_unfrozen_later_are_refused_or_fitted():
    critic = Critic()
    critic.hidden.requires_grad_(False)
    algorithm = make_algorithm(critic=critic, optim=OnlyTrainable())
    buffer = rollout(algorithm.policy, observations())
    frozen = copy.deepcopy(critic.hidden.state_dict())
    update(algorithm, buffer)  # frozen on purpose
    assert_same(critic.hidden.state_dict(), frozen)
    critic.hidden.requires_grad_(True)
    with pytest.raises(ValueError, match=r"got hidden\.weight, hidden\.bias, which the optimiser does not have"):
        update(algorithm, buffer)


def test_an_optimiser_that_knows_frozen_parameters_fits_them_once_they_are_unfrozen():
    critic = Critic()
    critic.hidden.requires_grad_(False)
    algorithm = make_algorithm(critic=critic)
    buffer = rollout(algorithm.policy, observations())
    before = critic.hidden.weight.clone()
    update(algorithm, buffer)
    assert torch.equal(critic.hidden.weight, before)
    critic.hidden.requires_grad_(True)
    update(algorithm, buffer)
    assert not torch.equal(critic.hidden.weight, before)


def test_what_an_optimiser_leaves_out_from_the_beginning_is_left_out_on_purpose():
    critic = Critic()
    algorithm = make_algorithm(critic=critic, optim=OnlyTrainable(last=2))
    before = copy.deepcopy(critic.hidden.state_dict())
    buffer = rollout(algorithm.policy, observations())
    update(copy.deepcopy(algorithm), buffer)
    update(algorithm, buffer)
    assert_same(critic.hidden.state_dict(), before)


def test_layers_that_are_shared_with_the_policy_are_the_policys_until_it_gives_them_up():
    actor, critic = Actor(), Critic()
    critic.hidden = actor.net[0]
    algorithm = make_algorithm(actor, critic)
    buffer = rollout(algorithm.policy, observations())
    assert update(algorithm, buffer).accepted
    actor.net[0] = copy.deepcopy(actor.net[0])
    with pytest.raises(ValueError, match=r"got hidden\.weight, hidden\.bias, which"):
        update(algorithm, buffer)


def test_new_values_in_the_old_parameters_are_fitted():
    algorithm = make_algorithm(critic=Critic())
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    algorithm.critic.load_state_dict(Critic().state_dict())
    before = copy.deepcopy(algorithm.critic.state_dict())
    update(algorithm, buffer)
    after = algorithm.critic.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_layer_that_was_taken_away_is_no_error():
    critic = Critic()
    critic.extra = nn.Linear(2, 2)
    algorithm = make_algorithm(critic=critic)
    del critic.extra
    assert update(algorithm, rollout(algorithm.policy, observations())).accepted


def test_another_optimiser_for_the_new_critic_is_followed():
    algorithm = make_algorithm(critic=Critic())
    algorithm.critic = Critic()
    algorithm.optim = algorithm._create_optimizer(algorithm.critic, AdamOptimizerFactory(lr=1e-2))
    before = copy.deepcopy(algorithm.critic.state_dict())
    update(algorithm, rollout(algorithm.policy, observations()))
    after = algorithm.critic.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
