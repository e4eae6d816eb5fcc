r"""torch's families of distributions: for each its Fisher metric in closed form, and how it is detached in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from trpo_ts.distributions.detached_double import (
    DETACHED_DOUBLES,
    detached_double,
    detached_double_tensor,
    register_detached_double,
)
from trpo_ts.distributions.fisher_metric import (
    METRICS,
    FisherMetric,
    diagonal_metric,
    fisher_metric,
    register_metric,
)

__all__ = ["categorical_metric", "register_like_parent"]

_Kind = TypeVar("_Kind", bound=type[Distribution])


def register_like_parent(kind: _Kind) -> _Kind:
    """Make a subclass known as its parent is: for one that differs in how it is sampled, and in nothing else."""
    parent = kind.__mro__[1]
    METRICS[kind], DETACHED_DOUBLES[kind] = METRICS[parent], DETACHED_DOUBLES[parent]
    return kind


@register_metric(Independent)
def _metric_of_independent(distribution: Independent[Distribution]) -> FisherMetric | None:
    # The components are independent given z, so the joint matrix is block diagonal: the base's products hold.
    return fisher_metric(distribution.base_dist)


@register_detached_double(Independent)
def _detached_independent(distribution: Independent[Distribution]) -> Distribution:
    return Independent(
        detached_double(distribution.base_dist), distribution.reinterpreted_batch_ndims, validate_args=False
    )


@register_metric(TransformedDistribution)
def _metric_of_transformed(distribution: TransformedDistribution) -> FisherMetric | None:
    # The same bijection of both policies changes neither KL divergence nor Fisher matrix. (torch's own divergence
    # refuses two policies whose transforms differ.)
    bijective = all(transform.bijective for transform in distribution.transforms)
    metric = fisher_metric(distribution.base_dist) if bijective else None
    return None if metric is None else replace(metric, determine_density=False)


@register_detached_double(TransformedDistribution)
def _detached_transformed(distribution: TransformedDistribution) -> Distribution:
    base = detached_double(distribution.base_dist)
    return TransformedDistribution(base, distribution.transforms, validate_args=False)


@register_metric(Normal)
def _metric_of_normal(distribution: Normal) -> FisherMetric:
    inverse_scale = 1 / distribution.scale.detach()
    return diagonal_metric((distribution.loc, inverse_scale), (distribution.scale, inverse_scale * math.sqrt(2)))


@register_detached_double(Normal)
def _detached_normal(distribution: Normal) -> Distribution:
    return Normal(
        detached_double_tensor(distribution.loc), detached_double_tensor(distribution.scale), validate_args=False
    )


@register_metric(Laplace)
def _metric_of_laplace(distribution: Laplace) -> FisherMetric:
    inverse_scale = 1 / distribution.scale.detach()
    return diagonal_metric((distribution.loc, inverse_scale), (distribution.scale, inverse_scale))


@register_detached_double(Laplace)
def _detached_laplace(distribution: Laplace) -> Distribution:
    return Laplace(
        detached_double_tensor(distribution.loc), detached_double_tensor(distribution.scale), validate_args=False
    )


@register_metric(Categorical)
def categorical_metric(distribution: Categorical) -> FisherMetric:
    """Return the Fisher metric of a categorical distribution in its normalised logits."""
    # torch keeps normalised logits: their tangents have zero mean under p, and diag(p) - p p^T acts as diag(p).
    return diagonal_metric((distribution.logits, distribution.probs.detach().sqrt()))


@register_detached_double(Categorical)
def _detached_categorical(distribution: Categorical) -> Distribution:
    return Categorical(logits=detached_double_tensor(distribution.logits), validate_args=False)


@register_metric(Bernoulli)
def _metric_of_bernoulli(distribution: Bernoulli) -> FisherMetric:
    probabilities = distribution.probs.detach()
    return diagonal_metric((distribution.logits, (probabilities * (1 - probabilities)).sqrt()))


@register_detached_double(Bernoulli)
def _detached_bernoulli(distribution: Bernoulli) -> Distribution:
    return Bernoulli(logits=detached_double_tensor(distribution.logits), validate_args=False)


@register_metric(Beta)
def _metric_of_beta(distribution: Beta) -> FisherMetric:
    alpha, beta = distribution.concentration1, distribution.concentration0
    shared = torch.polygamma(1, (alpha + beta).detach())
    first, second = (torch.polygamma(1, c.detach()) - shared for c in (alpha, beta))
    # The Cholesky factor of [[first, -shared], [-shared, second]].
    corner = first.sqrt()
    below = -shared / corner
    last = (second - below.square()).clamp_min(0.0).sqrt()
    return FisherMetric(
        (alpha, beta),
        lambda tangents: (
            first * tangents[0] - shared * tangents[1],
            second * tangents[1] - shared * tangents[0],
        ),
        lambda signs: (corner * signs[0], below * signs[0] + last * signs[1]),
    )


@register_detached_double(Beta)
def _detached_beta(distribution: Beta) -> Distribution:
    alpha, beta = distribution.concentration1, distribution.concentration0
    return Beta(detached_double_tensor(alpha), detached_double_tensor(beta), validate_args=False)


@register_metric(MultivariateNormal)
def _metric_of_multivariate_normal(distribution: MultivariateNormal) -> FisherMetric:
    # The covariance is K K^T with its Cholesky factor K. With T = K^-1 dK, the tangent dK changes it by K (T + T^T)
    # K^T, so that the quadratic form, half the trace of the squared relative change, is 1/2 |T + T^T|^2. Its gradient
    # with respect to dK is K^-T (T + T^T).
    factor = distribution._unbroadcasted_scale_tril.detach().expand(distribution.scale_tril.shape)

    def back(matrix: Tensor) -> Tensor:
        solution: Tensor = torch.linalg.solve_triangular(factor.mT, matrix, upper=True)  # K^-T matrix
        return solution

    def multiply(tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        mean_part = torch.cholesky_solve(tangents[0].unsqueeze(-1), factor).squeeze(-1)
        relative = torch.linalg.solve_triangular(factor, tangents[1], upper=False)
        return mean_part, back(relative + relative.mT)

    def root(signs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return back(signs[0].unsqueeze(-1)).squeeze(-1), back((signs[1] + signs[1].mT) / math.sqrt(2))

    return FisherMetric((distribution.loc, distribution.scale_tril), multiply, root)


@register_detached_double(MultivariateNormal)
def _detached_multivariate_normal(distribution: MultivariateNormal) -> Distribution:
    return MultivariateNormal(
        detached_double_tensor(distribution.loc),
        scale_tril=detached_double_tensor(distribution.scale_tril),
        validate_args=False,
    )
