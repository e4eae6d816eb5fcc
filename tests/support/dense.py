"""What the mathematics is checked against: tiny policies, literal divergences, dense matrices; all in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from trpo_ts.autodiff.gauss_newton import GaussNewton
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.distributions.fisher_metric import FisherMetric
from trpo_ts.distributions.masked_categorical import MaskedCategorical
from trpo_ts.distributions.product import Product
from trpo_ts.policies.categorical import JointCategorical
from trpo_ts.solver.line_search import Evaluation
from trpo_ts.solver.linear_operators import LinearOperator
from trpo_ts.solver.problem import Point, PolicyProblem

Parts = tuple[Tensor, ...]

WIDTH_OF_OBS = 3


@dataclass(frozen=True)
class Family:
    """A family of action distributions, and its divergence written out by hand.

    :param width: the number of network outputs per row.
    :param own: maps network outputs ``(N, width)`` to the arguments of the distribution's constructor.
    :param build: the constructor.
    :param kl: D(first || second) for each row, from the constructor's arguments.
    :param quadrature: for one row's arguments the actions ``(S, 1, ...)`` and weights ``(S,)`` that integrate the
        score's outer product exactly, or to rounding.
    """

    name: str
    width: int
    own: Callable[[Tensor], Parts]
    build: Callable[..., Distribution]
    kl: Callable[[Parts, Parts], Tensor]
    quadrature: Callable[[Parts], tuple[Tensor, Tensor]] | None = None

    def __str__(self) -> str:
        return self.name

    def parts(self, rows: int, seed: int = 0) -> Parts:
        """Return random arguments of the constructor for ``rows`` rows."""
        return self.own(torch.randn(rows, self.width, dtype=torch.float64, generator=generator(seed)))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kl_normal(old: Parts, new: Parts) -> Tensor:
    (m, s), (m_new, s_new) = old, new
    return (torch.log(s_new / s) + (s**2 + (m - m_new) ** 2) / (2 * s_new**2) - 0.5).sum(-1)


def kl_probabilities(p: Tensor, p_new: Tensor) -> Tensor:
    return (p * torch.log(p / p_new)).flatten(1).sum(-1)


def kl_bernoulli(p: Tensor, p_new: Tensor) -> Tensor:
    return (p * torch.log(p / p_new) + (1 - p) * torch.log((1 - p) / (1 - p_new))).sum(-1)


def kl_beta(old: Parts, new: Parts) -> Tensor:
    (a, b), (a_new, b_new) = old, new

    def log_beta(x: Tensor, y: Tensor) -> Tensor:
        return torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)

    return (
        log_beta(a_new, b_new)
        - log_beta(a, b)
        + (a - a_new) * torch.digamma(a)
        + (b - b_new) * torch.digamma(b)
        + (a_new - a + b_new - b) * torch.digamma(a + b)
    ).sum(-1)


def kl_multivariate_normal(m: Tensor, s: Tensor, m_new: Tensor, s_new: Tensor) -> Tensor:
    precision = torch.linalg.inv(s_new)
    difference = m_new - m
    return 0.5 * (
        torch.einsum("nij,nji->n", precision, s)
        + torch.einsum("ni,nij,nj->n", difference, precision, difference)
        - m.shape[-1]
        + torch.logdet(s_new)
        - torch.logdet(s)
    )


def _normalised(p: Tensor) -> Tensor:
    return p / p.sum(-1, keepdim=True)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2


def _squared(factor: Tensor) -> Tensor:
    return factor @ factor.mT


def _loc_and_factor(outputs: Tensor) -> Parts:
    zero = torch.zeros_like(outputs[:, 0])
    rows = [
        torch.stack([torch.exp(0.3 * outputs[:, 2]), zero], -1),
        torch.stack([outputs[:, 3], torch.exp(0.3 * outputs[:, 4])], -1),
    ]
    return outputs[:, :2], torch.stack(rows, -2)


def _loc_and_covariance(outputs: Tensor) -> Parts:
    loc, factor = _loc_and_factor(outputs)
    return loc, _squared(factor)


def _normal_nodes(size: int) -> tuple[Tensor, Tensor]:
    """Standard normal nodes ``(S, size)`` and weights; exact for polynomials up to degree 9 in each component."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    x, w = torch.as_tensor(nodes), torch.as_tensor(weights) / math.sqrt(2 * math.pi)
    return torch.cartesian_prod(*[x] * size), torch.cartesian_prod(*[w] * size).prod(-1)


def _normal_quadrature(parts: Parts) -> tuple[Tensor, Tensor]:
    nodes, weights = _normal_nodes(parts[0].shape[-1])
    return (parts[0] + parts[1] * nodes).unsqueeze(1), weights


def _factor_quadrature(loc: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    nodes, weights = _normal_nodes(loc.shape[-1])
    return (loc + nodes @ torch.linalg.cholesky(covariance[0]).mT).unsqueeze(1), weights


def _categorical_quadrature(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(probabilities.shape[-1]).unsqueeze(1), probabilities[0]


def _multi_categorical_quadrature(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    first, second = probabilities[0]
    actions = torch.cartesian_prod(torch.arange(len(first)), torch.arange(len(second)))
    return actions.unsqueeze(1), torch.cartesian_prod(first, second).prod(-1)


def _unequal(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities of two components, of two and three categories."""
    return logits[..., :2].softmax(-1), logits[..., 2:].softmax(-1)


def _kl_unequal(old: Tensor, new: Tensor) -> Tensor:
    return sum(kl_probabilities(p, q) for p, q in zip(_unequal(old), _unequal(new), strict=True))


def _unequal_quadrature(logits: Tensor) -> tuple[Tensor, Tensor]:
    first, second = _unequal(logits[0])
    actions = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    return actions.unsqueeze(1), torch.cartesian_prod(first, second).prod(-1)


def _mixed_quadrature(parts: Parts) -> tuple[Tensor, Tensor]:
    reals, real_weights = _normal_quadrature(parts[:2])
    indices, index_weights = _unequal_quadrature(parts[2])
    pairs = torch.cartesian_prod(torch.arange(len(reals)), torch.arange(len(indices)))
    actions = torch.cat([reals[pairs[:, 0]], indices[pairs[:, 1]].double()], dim=-1)
    return actions, real_weights[pairs[:, 0]] * index_weights[pairs[:, 1]]


def _bernoulli_quadrature(p: Tensor) -> tuple[Tensor, Tensor]:
    actions = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * p.shape[-1])
    return actions.unsqueeze(1), torch.where(actions == 1.0, p, 1 - p).prod(-1)


def _beta_quadrature(parts: Parts) -> tuple[Tensor, Tensor]:
    # The trapezoid rule in t = log(x / (1 - x)) converges exponentially.
    (a,), (b,) = parts[0][0], parts[1][0]
    spacing = 0.35
    t = torch.arange(-30.0, 30.0, spacing, dtype=torch.float64)
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return torch.sigmoid(t)[:, None, None], spacing * torch.exp(-a * F.softplus(-t) - b * F.softplus(t) - log_beta)


def _beta(size: int) -> Family:
    return Family(
        f"beta-{size}",
        2 * size,
        lambda o: (1.5 + F.softplus(o[:, :size]), 1.5 + F.softplus(o[:, size:])),
        lambda a, b: Independent(Beta(a, b), 1),
        kl_beta,
        _beta_quadrature if size == 1 else None,
    )


NORMAL = Family(
    "normal",
    4,
    lambda o: (o[:, :2], torch.exp(0.5 * o[:, 2:])),
    lambda loc, scale: Independent(Normal(loc, scale), 1),
    kl_normal,
    _normal_quadrature,
)
CATEGORICAL = Family(
    "categorical-logits",
    4,
    lambda o: (o,),
    lambda logits: Categorical(logits=logits),
    lambda old, new: kl_probabilities(old[0].softmax(-1), new[0].softmax(-1)),
    lambda parts: _categorical_quadrature(parts[0].softmax(-1)),
)
IMPOSSIBLE = torch.tensor([False, True, False, False, True])
MASKED = Family(
    "masked-categorical",
    5,
    lambda o: (o,),
    lambda logits: MaskedCategorical(logits=logits.masked_fill(IMPOSSIBLE, -math.inf)),
    lambda old, new: kl_probabilities(old[0][:, ~IMPOSSIBLE].softmax(-1), new[0][:, ~IMPOSSIBLE].softmax(-1)),
    lambda parts: (torch.tensor([[0], [2], [3]]), parts[0][0, ~IMPOSSIBLE].softmax(-1)),
)
UNEQUAL = Family(
    "unequal-multi-categorical",
    5,
    lambda o: (o,),
    JointCategorical(np.array([2, 3])),
    lambda old, new: _kl_unequal(old[0], new[0]),
    lambda parts: _unequal_quadrature(parts[0]),
)
MIXED = Family(
    "normal-and-unequal-multi-categorical",
    9,
    lambda o: (o[:, :2], torch.exp(0.5 * o[:, 2:4]), o[:, 4:]),
    lambda loc, scale, logits: Product([Independent(Normal(loc, scale), 1), UNEQUAL.build(logits)]),
    lambda old, new: kl_normal(old[:2], new[:2]) + _kl_unequal(old[2], new[2]),
    _mixed_quadrature,
)
FAMILIES = [
    NORMAL,
    CATEGORICAL,
    MASKED,
    UNEQUAL,
    MIXED,
    Family(
        "categorical-probs",
        4,
        lambda o: (o.softmax(-1),),
        lambda probs: Categorical(probs=probs),
        lambda old, new: kl_probabilities(_normalised(old[0]), _normalised(new[0])),
        lambda parts: _categorical_quadrature(_normalised(parts[0])),
    ),
    Family(
        "multi-categorical",
        6,
        lambda o: (o.reshape(-1, 2, 3),),
        lambda logits: Independent(Categorical(logits=logits), 1),
        lambda old, new: kl_probabilities(old[0].softmax(-1), new[0].softmax(-1)),
        lambda parts: _multi_categorical_quadrature(parts[0].softmax(-1)),
    ),
    Family(
        "bernoulli-logits",
        3,
        lambda o: (o,),
        lambda logits: Independent(Bernoulli(logits=logits), 1),
        lambda old, new: kl_bernoulli(old[0].sigmoid(), new[0].sigmoid()),
        lambda parts: _bernoulli_quadrature(parts[0].sigmoid()),
    ),
    Family(
        "bernoulli-probs",
        3,
        lambda o: (o.sigmoid(),),
        lambda probs: Independent(Bernoulli(probs=probs), 1),
        lambda old, new: kl_bernoulli(old[0], new[0]),
        lambda parts: _bernoulli_quadrature(parts[0]),
    ),
    _beta(1),
    _beta(2),
    Family(
        "multivariate-normal-factor",
        5,
        _loc_and_factor,
        lambda loc, factor: MultivariateNormal(loc, scale_tril=factor.tril()),
        lambda old, new: kl_multivariate_normal(old[0], _squared(old[1].tril()), new[0], _squared(new[1].tril())),
        lambda parts: _factor_quadrature(parts[0], _squared(parts[1])),
    ),
    Family(
        "multivariate-normal-covariance",
        5,
        _loc_and_covariance,
        lambda loc, covariance: MultivariateNormal(loc, covariance_matrix=_symmetric(covariance)),
        lambda old, new: kl_multivariate_normal(old[0], _symmetric(old[1]), new[0], _symmetric(new[1])),
        lambda parts: _factor_quadrature(*parts),
    ),
    Family(
        "multivariate-normal-precision",
        5,
        _loc_and_covariance,  # any positive definite matrix will do
        lambda loc, precision: MultivariateNormal(loc, precision_matrix=_symmetric(precision)),
        lambda old, new: kl_multivariate_normal(
            old[0], torch.linalg.inv(_symmetric(old[1])), new[0], torch.linalg.inv(_symmetric(new[1]))
        ),
        lambda parts: _factor_quadrature(parts[0], torch.linalg.inv(parts[1])),
    ),
]


families = pytest.mark.parametrize("family", FAMILIES, ids=str)
UNKNOWN = [
    Gamma(torch.ones(3), torch.ones(3)),
    OneHotCategorical(logits=torch.zeros(3, 4)),
    Independent(Gamma(torch.ones(3, 2), torch.ones(3, 2)), 1),
]
"""Distributions whose Fisher matrix has no closed form here."""


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def network_size(widths: Sequence[int]) -> int:
    return sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths))


def network(theta: Tensor, obs: Tensor, widths: Sequence[int]) -> Tensor:
    """Evaluate a tanh network whose weights and biases stand one after the other in ``theta``."""
    hidden, used = obs, 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        weight = theta[used : used + n_in * n_out].reshape(n_out, n_in)
        bias = theta[used + n_in * n_out : used + (n_in + 1) * n_out]
        used += (n_in + 1) * n_out
        hidden = hidden @ weight.mT + bias
        if layer < len(widths) - 2:
            hidden = torch.tanh(hidden)
    return hidden


class DensePolicy:
    """A network with a family of distributions on a fixed set of observations."""

    def __init__(self, family: Family, rows: int = 7, hidden: int = 4, seed: int = 0) -> None:
        self.family = family
        self.widths = (WIDTH_OF_OBS, hidden, family.width)
        self.obs = torch.randn(rows, WIDTH_OF_OBS, dtype=torch.float64, generator=generator(seed))
        self.theta = 0.6 * torch.randn(network_size(self.widths), dtype=torch.float64, generator=generator(seed + 1))

    def parts(self, theta: Tensor, rows: slice | Tensor = slice(None)) -> Parts:
        return self.family.own(network(theta, self.obs[rows], self.widths))

    def distribution(self, theta: Tensor, rows: slice | Tensor = slice(None)) -> Distribution:
        return self.family.build(*self.parts(theta, rows))

    def kl(self, old: Tensor, new: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        """Return the mean divergence over the rows, from the literal formula."""
        return self.family.kl(self.parts(old, rows), self.parts(new, rows)).mean()

    def fisher(self, theta: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        """Return the dense Hessian ``(P, P)`` of the mean divergence, at the point of no divergence."""
        return torch.func.hessian(lambda new: self.kl(theta, new, rows))(theta)

    def moved(self, distance: float, seed: int = 5) -> Tensor:
        """Return parameters away from the policy's own."""
        return self.theta + distance * torch.randn(len(self.theta), dtype=torch.float64, generator=generator(seed))


class DenseProblem:
    """A policy, actions and advantages; the surrogate written out."""

    def __init__(self, policy: DensePolicy, seed: int = 11, **settings: float | int | None) -> None:
        self.policy = policy
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            behaviour = policy.distribution(policy.theta)
            self.act = behaviour.sample()
            self.adv = torch.randn(len(policy.obs), dtype=torch.float64)
        self.logp_old = behaviour.log_prob(self.act)
        self.ent_coef = settings.get("ent_coef", 0.0)
        self.problem, self.start = problem_of(policy.distribution, policy.theta, act=self.act, adv=self.adv, **settings)

    def objective(self, theta: Tensor) -> Tensor:
        distribution = self.policy.distribution(theta)
        ratio = torch.exp(distribution.log_prob(self.act) - self.logp_old)
        bonus = self.ent_coef * distribution.entropy().mean() if self.ent_coef else 0.0
        return (ratio * self.adv).mean() + bonus

    def gradient(self, theta: Tensor) -> Tensor:
        leaf = theta.clone().requires_grad_(True)
        return torch.autograd.grad(self.objective(leaf), leaf)[0]


class _Parametrised(nn.Module):
    """A function of a parameter vector and rows, as a module."""

    def __init__(self, function: Callable[[Tensor, slice | Tensor], Distribution], theta: Tensor) -> None:
        super().__init__()
        self.function = function
        self.theta = nn.Parameter(theta.clone())

    def forward(self, rows: slice | Tensor) -> Distribution:
        return self.function(self.theta, rows)


def problem_of(
    function: Callable[[Tensor, slice | Tensor], Distribution],
    theta: Tensor,
    *,
    act: Tensor,
    adv: Tensor,
    micro_batch_size: int | None = None,
    starts: Tensor | None = None,
    **settings: float,
) -> tuple[PolicyProblem, Point]:
    """Return the problem of a policy that is a function of ``theta`` and rows, and the point where it starts."""
    policy_function = RowFunction(
        _Parametrised(function, theta),
        lambda rows: (rows,),
        len(adv),
        starts=starts,
        micro_batch_size=micro_batch_size,
    )
    return PolicyProblem.of_rollout(policy_function, act=act, adv=adv, **settings)


def point(theta: Tensor) -> Point:
    """Return a point at which nothing has been evaluated."""
    return Point(theta, Evaluation(math.nan, math.nan))


def dense(operator: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Return the matrix of a linear operator, column by column."""
    return torch.stack([operator(column) for column in torch.eye(size, dtype=torch.float64)], dim=1)


def gauss_newton_product(metric: FisherMetric, theta: Tensor) -> LinearOperator:
    """Return the product with the mean Fisher matrix of a single parameter vector, a leaf ``(P,)``."""
    return GaussNewton(metric, [theta]).of_vector


def with_eigenvalues(values: Sequence[float] | Tensor, seed: int = 0) -> Tensor:
    """Return a dense symmetric matrix with the given eigenvalues and random eigenvectors."""
    values = torch.as_tensor(values, dtype=torch.float64)
    vectors, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator(seed)))
    return (vectors * values) @ vectors.mT
