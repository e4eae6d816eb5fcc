"""Distributions detached from their graph, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dense import CATEGORICAL, FAMILIES, NORMAL, Family, families
from rollouts import ACT_DIM, BOX, OBS_DIM, OBSERVATIONS, Mlp, make_rollout, make_trpo, update
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Exponential,
    Gamma,
    Gumbel,
    Independent,
    LogNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Poisson,
    StudentT,
    kl_divergence,
)

from trpo_ts.distributions.detached_double import detached_double


class LowRankActor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Mlp((OBS_DIM, 8, 3 * ACT_DIM))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        return self.body(obs), state


def low_rank(outputs: Tensor) -> Distribution:
    mean, factor, diagonal = outputs.chunk(3, dim=-1)
    return LowRankMultivariateNormal(mean, factor.unsqueeze(-1), F.softplus(diagonal) + 0.1)


def test_a_family_that_computes_in_the_networks_precision():
    torch.manual_seed(0)
    policy = ProbabilisticActorPolicy(
        actor=LowRankActor(),
        dist_fn=low_rank,
        action_space=BOX,
        observation_space=OBSERVATIONS,
        action_scaling=False,
        action_bound_method=None,
    )
    assert update(make_trpo(policy), make_rollout(policy)).accepted == 1.0


# --- detached_double


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_is_the_same_distribution_detached_and_in_float64(family: Family, dtype: torch.dtype):
    parts = tuple(part.to(dtype).requires_grad_(True) for part in family.parts(6))
    distribution = family.build(*parts)
    detached = detached_double(distribution)
    action = distribution.sample()
    if dtype is torch.float32 and "beta" in family.name:
        action = action.clamp(1e-3, 1 - 1e-3)
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    assert (detached.batch_shape, detached.event_shape) == (distribution.batch_shape, distribution.event_shape)
    # The log-probability of a Bernoulli has the dtype of the action.
    action_in_double = action.double() if action.is_floating_point() else action
    for got, expected in [
        (detached.log_prob(action_in_double), distribution.log_prob(action)),
        (detached.entropy(), distribution.entropy()),
    ]:
        assert got.dtype is torch.float64
        assert not got.requires_grad
        torch.testing.assert_close(got, expected.detach().double(), **tolerance)
    itself = kl_divergence(detached, detached_double(distribution))
    torch.testing.assert_close(itself, torch.zeros_like(itself), rtol=0, atol=1e-12)


@families
def test_divergence_of_detached_distributions_is_the_literal_formula(family: Family):
    old, new = family.parts(8, seed=1), family.parts(8, seed=2)
    got = kl_divergence(detached_double(family.build(*old)), detached_double(family.build(*new)))
    torch.testing.assert_close(got, family.kl(old, new), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", [NORMAL, CATEGORICAL], ids=str)
def test_it_resolves_a_divergence_that_float32_does_not(family: Family):
    old = tuple(part.float() for part in family.parts(64))
    new = tuple(part + 1e-4 * torch.randn_like(part) for part in old)
    literal = family.kl(tuple(p.double() for p in old), tuple(p.double() for p in new)).mean()
    double = kl_divergence(detached_double(family.build(*old)), detached_double(family.build(*new))).mean()
    assert double == pytest.approx(literal.item(), rel=1e-4)


@pytest.mark.parametrize("family", [f for f in FAMILIES if "multivariate" not in f.name], ids=str)
def test_it_does_not_follow_later_changes_of_the_network(family: Family):
    parts = tuple(part.float() for part in family.parts(3))
    detached = detached_double(family.build(*parts))
    before = detached.entropy().clone()
    for part in parts:
        part.mul_(0.5)
    assert torch.equal(detached.entropy(), before)


# --- literal numbers, so that no formula of this file is trusted alone


@pytest.mark.parametrize(
    ("old", "new", "kl"),
    [
        # log 2 + (1 + 1) / 8 - 1/2
        (
            Normal(torch.tensor(0.0), torch.tensor(1.0)),
            Normal(torch.tensor(1.0), torch.tensor(2.0)),
            0.4431471805599453,
        ),
        # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75)
        (Categorical(torch.tensor([0.5, 0.5])), Categorical(torch.tensor([0.25, 0.75])), 0.14384103622589042),
        # the same two outcomes
        (Bernoulli(torch.tensor(0.5)), Bernoulli(torch.tensor(0.25)), 0.14384103622589042),
        # uniform against 2 x: -log 2 - E[log x] = 1 - log 2
        (Beta(torch.tensor(1.0), torch.tensor(1.0)), Beta(torch.tensor(2.0), torch.tensor(1.0)), 0.3068528194400547),
        # in two dimensions with covariances I and 4 I: (2/4 - 2 + log 16) / 2
        (
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
            MultivariateNormal(torch.zeros(2), 4 * torch.eye(2)),
            0.6362943611198906,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_divergence_of_detached_distributions_by_hand(old: Distribution, new: Distribution, kl: float):
    assert kl_divergence(detached_double(old), detached_double(new)).item() == pytest.approx(kl, rel=1e-7)


class _InFloat32(StudentT):
    """Its density multiplies with a matrix of float32."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value @ torch.eye(2))


def test_a_distribution_that_cannot_compute_in_float64_freezes_to_itself():
    base = _InFloat32(torch.tensor(5.0), torch.zeros(3, 2))
    assert detached_double(base) is base
    assert detached_double(Independent(base, 1)).base_dist is base


class _ShiftedNormal(Normal):
    """A subclass that is another distribution: its mean lies one above ``loc``."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value - 1.0)


def test_a_subclass_that_changes_the_density_keeps_it_when_detached():
    distribution = _ShiftedNormal(torch.zeros(3), torch.ones(3))
    action = torch.tensor([1.0, 0.0, 2.0])
    torch.testing.assert_close(detached_double(distribution).log_prob(action).float(), distribution.log_prob(action))


BY_PARAMETERS = {
    Dirichlet: lambda x: {"concentration": 1 + x},
    Exponential: lambda x: {"rate": 1 + x},
    Gamma: lambda x: {"concentration": 1 + x, "rate": 2 + x},
    Gumbel: lambda x: {"loc": x, "scale": 1 + x},
    LogNormal: lambda x: {"loc": x, "scale": 1 + x},
    LowRankMultivariateNormal: lambda x: {"loc": x, "cov_factor": x.unsqueeze(-1), "cov_diag": 1 + x},
    OneHotCategorical: lambda x: {"logits": x},
    Poisson: lambda x: {"rate": 1 + x},
}


@pytest.mark.parametrize("kind", BY_PARAMETERS, ids=lambda kind: kind.__name__)
def test_small_divergences_of_families_without_a_metric_are_exact(kind: Any):
    """In float32, Gumbel's divergence of 1.4e-7 came out as 1.8e-7, and others as zero."""
    x = torch.tensor([[0.3, 0.7, 1.1]])
    parameters = [BY_PARAMETERS[kind](values) for values in (x, x + 1e-4 * x.square())]
    old, new = (detached_double(kind(**values)) for values in parameters)
    exact = [kind(**{name: value.double() for name, value in values.items()}) for values in parameters]
    if kind is OneHotCategorical:  # torch normalises its logits in their own precision
        torch.testing.assert_close(kl_divergence(old, new), kl_divergence(*exact), rtol=0.02, atol=1e-12)
    else:
        torch.testing.assert_close(kl_divergence(old, new), kl_divergence(*exact), rtol=1e-9, atol=0.0)
