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

from trpo_ts.autodiff.flat_parameters import FlatParameters


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


def test_the_vector_holds_tied_memory_once_and_its_gradient_twice():
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    module[1].weight.data = module[0].weight.data
    own = module[0].weight, module[1].weight
    parameters, x = FlatParameters(module), torch.tensor([[1.0, 2.0]]).double()
    theta = parameters.read().requires_grad_(True)
    assert theta.shape == (4,)
    (gradient,) = torch.autograd.grad(parameters.call(theta, x).sum(), theta)
    weight = module[0].weight.detach().clone().requires_grad_(True)
    (expected,) = torch.autograd.grad((x @ weight.mT @ weight.mT).sum(), weight)
    torch.testing.assert_close(gradient, expected.flatten())
    assert (module[0].weight, module[1].weight) == own or (module[0].weight is own[0] and module[1].weight is own[1])


def test_an_expanded_parameter_is_refused():
    class Expanded(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1).expand(4))

    algorithm = make_algorithm(Expanded())
    buffer = rollout(algorithm.policy, observations())
    with pytest.raises(ValueError, match=r"must each have memory of their own, got an expanded one"):
        update(algorithm, buffer)
