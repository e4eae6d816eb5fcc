"""Networks that decide by their rows which layers they call: parts of a rollout call other layers than all of it."""

from __future__ import annotations

import copy

import pytest
import torch
from kfac_cases import identity_metric, obs_of, row_function
from torch import Tensor, nn
from torch.distributions import Categorical

from trpo_ts import KFAC
from trpo_ts.critics import CriticTask, GaussNewtonFit
from trpo_ts.kfac.factors import FactorsDifferError, KroneckerFactors, kronecker_factors
from trpo_ts.solver import trust_region_update

HIDDEN = 8


class Heads(nn.Module):
    """A head for each of two tasks; the first input is above zero for the first task."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, HIDDEN), nn.Tanh())
        self.first, self.second = nn.Linear(HIDDEN, outputs), nn.Linear(HIDDEN, outputs)

    def forward(self, obs: Tensor) -> Tensor:
        is_first, h = obs[:, :1] > 0.0, self.body(obs)
        if bool(is_first.all()):
            return self.first(h)
        if not bool(is_first.any()):
            return self.second(h)
        return torch.where(is_first, self.first(h), self.second(h))


class Experts(Heads):
    """Each head takes the rows of its own task, and is not called without any."""

    def forward(self, obs: Tensor) -> Tensor:
        is_first, h = obs[:, 0] > 0.0, self.body(obs)
        out = h.new_zeros(len(h), self.first.out_features)
        for rows, head in ((is_first, self.first), (~is_first, self.second)):
            if bool(rows.any()):
                out[rows] = head(h[rows])
        return out


class WithoutLayer(Heads):
    """The first task's rows meet no layer at all."""

    def __init__(self, outputs: int) -> None:
        super().__init__(outputs)
        self.matrix = nn.Parameter(0.3 * torch.randn(3, outputs))

    def forward(self, obs: Tensor) -> Tensor:
        is_first, product = obs[:, :1] > 0.0, obs @ self.matrix
        if bool(is_first.all()):
            return product
        return torch.where(is_first, product, self.second(self.body(obs)))


class CalledTwice(Heads):
    """All parts call the same layers in the same order, but some call one of them twice."""

    def forward(self, obs: Tensor) -> Tensor:
        is_first, h = obs[:, :1] > 0.0, self.body(obs)
        first, second = self.first(h), self.second(h)
        if bool(is_first.any()) and not bool(is_first.all()):
            second = second + 0.5 * self.second(h)
        return torch.where(is_first, first, second if bool(is_first.any()) else 1.5 * second)


routes = pytest.mark.parametrize(
    ("network", "micro_batch_size"),
    # Parts of one row are all of one task: that they call a layer once says nothing of a pass over both.
    [(network, size) for network in (Heads, Experts, WithoutLayer) for size in (1, 7, 25)]
    + [(CalledTwice, size) for size in (7, 25)],
)


class RoutedPolicy(nn.Module):
    def __init__(self, network: type[Heads]) -> None:
        super().__init__()
        self.network = network(3)

    def forward(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.network(obs))


def ordered_by_task(rows: int, of_first_task: int) -> Tensor:
    """Return observations whose first rows are all of the second task."""
    obs = obs_of(rows)
    sign = torch.ones(rows, dtype=torch.float64)
    sign[: rows - of_first_task] = -1.0
    obs[:, 0] = obs[:, 0].abs() * sign
    return obs


# The last: a rollout that KFAC's evenly spaced samples hold no row of the first task of.
sizes = pytest.mark.parametrize(("rows", "of_first_task"), [(60, 30), (61, 7), (60, 60), (60, 1)])


@pytest.mark.parametrize("samples", [512, 20])
@sizes
@routes
def test_a_policy_takes_the_same_step_in_parts(
    network: type[Heads], rows: int, of_first_task: int, micro_batch_size: int, samples: int
):
    """Before, heads for tasks ended in a KeyError or a RuntimeError, or in parameters that differed by 2e-3."""
    torch.manual_seed(0)
    policy, obs = RoutedPolicy(network).double(), ordered_by_task(rows, of_first_task)
    with torch.no_grad():
        act, adv = policy(obs).sample(), torch.randn(rows).double()
    whole, in_parts = (
        trust_region_update(
            copy.deepcopy(policy), obs, act, adv, micro_batch_size=size, preconditioner=KFAC(samples=samples)
        )
        for size in (None, micro_batch_size)
    )
    assert whole.accepted
    torch.testing.assert_close(in_parts.end.theta, whole.end.theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("samples", [256, 20])
@sizes
@routes
def test_a_critic_is_fitted_alike_in_parts(
    network: type[Heads], rows: int, of_first_task: int, micro_batch_size: int, samples: int
):
    torch.manual_seed(1)
    critic, obs = network(1).double(), ordered_by_task(rows, of_first_task)
    fit = GaussNewtonFit(preconditioner=KFAC(inner_iterations=1, samples=samples, relative_damping=0.0))
    found = []
    for size in (None, micro_batch_size):
        values = copy.deepcopy(critic)
        fit.fit(CriticTask(values, torch.optim.Adam(values.parameters()), obs, obs.square().sum(1), size))
        found.append(torch.cat([p.detach().flatten() for p in values.parameters()]))
    assert not torch.equal(found[0], torch.cat([p.detach().flatten() for p in critic.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


def factors_of(network: nn.Module, obs: Tensor) -> KroneckerFactors:
    function = row_function(network, obs)
    forward_pass = function.forward_pass(
        function.parameters.read().requires_grad_(True), slice(0, len(obs)), record_layers=True
    )
    return kronecker_factors(forward_pass, identity_metric(forward_pass.value))


def test_factors_of_other_layers_are_not_joined():
    network = Heads(2).double()
    obs = ordered_by_task(20, 10)
    parts = [factors_of(network, obs[:10]), factors_of(network, obs[10:])]
    with pytest.raises(FactorsDifferError):
        KroneckerFactors.joined(parts, [0.5, 0.5])


def test_factors_of_layers_that_are_called_more_often_are_not_joined():
    network = CalledTwice(2).double()
    obs = ordered_by_task(20, 5)
    parts = [factors_of(network, obs[:10]), factors_of(network, obs[10:])]
    with pytest.raises(FactorsDifferError):
        KroneckerFactors.joined(parts, [0.5, 0.5])
