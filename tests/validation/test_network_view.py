"""Checks that are made once for a network are made again where it has become another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bandit import Actor, Critic, as_float, make_algorithm, observations, rollout, update
from torch import nn

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.validation import policy_checks
from trpo_ts.validation.network_view import NetworkView

pytestmark = pytest.mark.usefixtures("seeded")


def freeze(network: Actor) -> None:
    network.net[0].weight.requires_grad_(False)


def replace_parameter(network: Actor) -> None:
    network.net[0].weight = nn.Parameter(network.net[0].weight.detach().clone())


def replace_module(network: Actor) -> None:
    network.net[1] = nn.Tanh()


def add_module(network: Actor) -> None:
    network.extra = nn.Identity()


CHANGES: dict[str, Callable[[Actor], Any]] = {
    "freeze": freeze,
    "replace a parameter": replace_parameter,
    "replace a module": replace_module,
    "add a module": add_module,
    "convert": lambda network: network.double(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_network_has_another_view(name: str):
    network = Actor()
    view = NetworkView(network)
    assert view == NetworkView(network)
    CHANGES[name](network)
    assert view != NetworkView(network)


def test_other_numbers_and_modes_are_the_same_network():
    network = Actor()
    view = NetworkView(network)
    with torch.no_grad():
        network.log_std.add_(1.0)
    network.eval()
    assert view == NetworkView(network)
    assert copy.deepcopy(view) != view


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "convert"])
def test_a_policy_is_checked_again_after_a_change_only(name: str, monkeypatch: pytest.MonkeyPatch):
    looks = []
    check = policy_checks.check_distribution
    monkeypatch.setattr(policy_checks, "check_distribution", lambda *args: looks.append(1) or check(*args))
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    for _ in range(3):
        update(algorithm, buffer)
    assert len(looks) == 1
    CHANGES[name](algorithm.policy.actor)
    for _ in range(2):
        update(algorithm, buffer)
    assert len(looks) == 2


class BatchMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x - x.mean(0))


def test_a_layer_that_depends_on_other_rows_is_seen_where_it_comes_later():
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    algorithm.policy.actor.net[1] = BatchMean()
    with pytest.raises(ValueError, match="whatever other observations are in its batch"):
        update(algorithm, buffer)


def test_a_critic_is_checked_again_by_its_fit():
    class Listed(Critic):
        """May reach its last layer through a list too."""

        def forward(self, obs: Any) -> torch.Tensor:
            hidden = torch.tanh(self.hidden(as_float(obs)))
            return self.last(hidden) + (self.weights[0] @ hidden.T).T if hasattr(self, "extra") else self.last(hidden)

    critic = Listed()
    critic.weights = [critic.last.weight]
    algorithm = make_algorithm(critic=critic, critic_fit=GaussNewtonFit())
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    critic.extra = nn.Identity()
    with pytest.raises(ValueError, match="critic must reach each parameter as an attribute of its module"):
        update(algorithm, buffer)
