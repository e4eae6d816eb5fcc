"""Parameters that share memory by way of `.data`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bandit import (
    Actor,
    Critic,
    as_float,
    assert_same,
    everything,
    make_algorithm,
    observations,
    rollout,
    update,
    update_and_measure,
)
from torch import nn

from trpo_ts.validation.parameter_memory import check_separate

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("tied_before", [True, False])
def test_a_critic_in_the_policys_memory_is_refused(tied_before: bool):
    actor, critic = Actor(), Critic()
    if tied_before:
        critic.hidden.weight.data = actor.net[0].weight.data
    algorithm = make_algorithm(actor, critic)
    critic.hidden.weight.data = actor.net[0].weight.data
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"got hidden\.weight in the same memory as the policy's"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


class Tied(nn.Module):
    """Two layers whose weights are the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        self.second.weight.data = self.first.weight.data
        self.log_std = nn.Parameter(torch.full((1,), -0.5))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        mean = self.last(torch.tanh(self.second(torch.tanh(self.first(as_float(obs))))))
        return (mean, self.log_std.exp().expand_as(mean)), state


def test_layers_tied_by_data_move_together():
    torch.manual_seed(0)
    actor = Tied()
    stats, true = update_and_measure(make_algorithm(actor), observations())
    assert stats.accepted
    assert true == pytest.approx(stats.kl.mean, rel=1e-3)
    assert actor.second.weight.data_ptr() == actor.first.weight.data_ptr()
    assert actor.second.weight is not actor.first.weight


def test_an_expanded_parameter_is_refused():
    class Expanded(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1).expand(4))

    algorithm = make_algorithm(Expanded())
    buffer = rollout(algorithm.policy, observations())
    with pytest.raises(ValueError, match=r"must each have memory of their own, got an expanded one"):
        update(algorithm, buffer)


def test_buffers_of_the_policy_count_too():
    policy, critic = nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False)
    critic.weight.data = policy.running_mean[None]
    with pytest.raises(ValueError, match="got weight in the same memory"):
        check_separate([*policy.parameters(), *policy.buffers()], critic, [critic.weight])
    assert torch.equal(policy.running_mean, torch.zeros(3))


def test_empty_parameters_share_nothing():
    policy, critic = nn.Linear(0, 2, bias=False), nn.Linear(0, 2, bias=False)
    assert check_separate(policy.parameters(), critic, list(critic.parameters())) is None


class Aliased(Actor):
    """Reads a trained bias through a frozen parameter, a buffer or an array in the same memory."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        memory = self.net[2].bias.data
        if kind == "frozen parameter":
            self.alias = nn.Parameter(torch.zeros(1), requires_grad=False)
            self.alias.data = memory
        elif kind == "buffer":
            self.register_buffer("alias", memory)
        else:
            self.alias = memory.numpy()

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        (mean, std), state = super().forward(obs, state, info)
        return (mean + 5.0 * torch.as_tensor(self.alias), std), state


@pytest.mark.parametrize("kind", ["frozen parameter", "buffer", "array"])
def test_a_trained_parameter_that_is_read_in_another_way_is_refused(kind: str):
    """The stats said 0.020, and the true divergence was 0.051, at a bound of 0.02."""
    torch.manual_seed(0)
    algorithm = make_algorithm(Aliased(kind))
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"policy must use a trained parameter's memory through that parameter alone"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)
