r"""What the natural gradient has to know of each action distribution.

For a distribution with parameters :math:`z` (for a Gaussian its mean and standard deviation) the Fisher
information matrix in its own parameters,

.. math:: M(z) = \mathbb{E}_{a \sim p_z}\left[\nabla_z \log p_z(a) \, \nabla_z \log p_z(a)^\top\right],

has a closed form. It is the Hessian of :math:`D_{KL}(p_z \| p_{z'})` with respect to :math:`z'` at
:math:`z' = z` (Schulman et al. 2015, arXiv:1502.05477, appendix C.1).

Two functions look a distribution up by its very type (a subclass may have another density): :func:`fisher_metric`
and :func:`frozen`. A distribution that neither knows still works: its Fisher products come from the Hessian of the KL
divergence instead. :func:`register_metric` and :func:`register_frozen` make another type known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

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

__all__ = [
    "FisherMetric",
    "categorical_metric",
    "exact_log_prob",
    "fisher_metric",
    "frozen",
    "in_double",
    "register_frozen",
    "register_like_parent",
    "register_metric",
]


@dataclass(frozen=True)
class FisherMetric:
    r"""A distribution's own parameters, and the product with their Fisher matrix.

    :param outputs: the tensors :math:`z`, each of shape ``(N, ...)``, as functions of the policy's parameters.
    :param multiply: maps one tangent per output to :math:`M(z)` times the tangents, sample by sample.
    :param root: maps tensors of the outputs' shapes to :math:`B(z)` times them, where :math:`B B^\top = M`: applied
        to independent signs it gives vectors whose second moment is :math:`M`.
    :param determine_density: whether ``log_prob`` is computed from these very tensors and from nothing else that
        depends on the policy's parameters, so that its gradient may be taken by way of them.
    """

    outputs: tuple[Tensor, ...]
    multiply: Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
    root: Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
    determine_density: bool = False

    def of_samples(self, samples: Tensor) -> FisherMetric:
        """Return the metric of some of the samples, given by their indices."""

        def all_samples(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [
                torch.zeros_like(output).index_copy_(0, samples, tensor)
                for output, tensor in zip(self.outputs, tensors, strict=True)
            ]

        return FisherMetric(
            tuple(output[samples] for output in self.outputs),
            lambda tangents: tuple(product[samples] for product in self.multiply(all_samples(tangents))),
            lambda signs: tuple(product[samples] for product in self.root(all_samples(signs))),
            self.determine_density,
        )


_METRICS: dict[type[Distribution], Callable[[Any], FisherMetric | None]] = {}
_FROZEN: dict[type[Distribution], Callable[[Any], Distribution]] = {}


def fisher_metric(distribution: Distribution) -> FisherMetric | None:
    """Return the distribution's closed-form Fisher metric, or None where none is known."""
    find = _METRICS.get(type(distribution))
    return None if find is None else find(distribution)


def frozen(distribution: Distribution) -> Distribution:
    """Return the distribution as a constant, in float64 where its type is known.

    A KL divergence of 1e-4 is the small difference of large terms: in float32 its error is a percent of it.
    """
    freeze = _FROZEN.get(type(distribution))
    return distribution if freeze is None else freeze(distribution)


_Metric = TypeVar("_Metric", bound=Callable[[Any], FisherMetric | None])
_Freeze = TypeVar("_Freeze", bound=Callable[[Any], Distribution])


def register_metric(kind: type[Distribution]) -> Callable[[_Metric], _Metric]:
    """Return a decorator: the function gives the Fisher metric of distributions of exactly this type."""

    def register(function: _Metric) -> _Metric:
        _METRICS[kind] = function
        return function

    return register


def register_frozen(kind: type[Distribution]) -> Callable[[_Freeze], _Freeze]:
    """Return a decorator: the function gives distributions of exactly this type as constants in float64."""

    def register(function: _Freeze) -> _Freeze:
        _FROZEN[kind] = function
        return function

    return register


_Kind = TypeVar("_Kind", bound=type[Distribution])


def register_like_parent(kind: _Kind) -> _Kind:
    """Make a subclass known as its parent is: for one that differs in how it is sampled, and in nothing else."""
    parent = kind.__mro__[1]
    _METRICS[kind], _FROZEN[kind] = _METRICS[parent], _FROZEN[parent]
    return kind


@register_metric(Independent)
def _(distribution: Independent[Distribution]) -> FisherMetric | None:
    # The components are independent given z, so the joint matrix is block diagonal: the base's products stand.
    return fisher_metric(distribution.base_dist)


@register_metric(TransformedDistribution)
def _(distribution: TransformedDistribution) -> FisherMetric | None:
    # The same bijection of both policies changes neither KL divergence nor Fisher matrix. (torch's own divergence
    # refuses two policies whose transforms differ.)
    bijective = all(transform.bijective for transform in distribution.transforms)
    metric = fisher_metric(distribution.base_dist) if bijective else None
    return None if metric is None else replace(metric, determine_density=False)


@register_metric(Normal)
def _(distribution: Normal) -> FisherMetric:
    inverse_scale = 1 / distribution.scale.detach()
    return _diagonal_metric((distribution.loc, inverse_scale), (distribution.scale, inverse_scale * math.sqrt(2)))


@register_metric(Laplace)
def _(distribution: Laplace) -> FisherMetric:
    inverse_scale = 1 / distribution.scale.detach()
    return _diagonal_metric((distribution.loc, inverse_scale), (distribution.scale, inverse_scale))


@register_metric(Categorical)
def categorical_metric(distribution: Categorical) -> FisherMetric:
    """Return the Fisher metric of a categorical distribution in its normalised logits."""
    # torch keeps normalised logits: their tangents have zero mean under p, and diag(p) - p p^T acts as diag(p).
    return _diagonal_metric((distribution.logits, distribution.probs.detach().sqrt()))


@register_metric(Bernoulli)
def _(distribution: Bernoulli) -> FisherMetric:
    probabilities = distribution.probs.detach()
    return _diagonal_metric((distribution.logits, (probabilities * (1 - probabilities)).sqrt()))


def _diagonal_metric(*roots: tuple[Tensor, Tensor]) -> FisherMetric:
    """Return the metric with a diagonal :math:`M`, from the outputs and the square roots of their diagonals."""
    outputs, scales = zip(*roots, strict=True)
    squares = [scale.square() for scale in scales]
    return FisherMetric(
        tuple(outputs),
        lambda tangents: tuple(square * tangent for square, tangent in zip(squares, tangents, strict=True)),
        lambda signs: tuple(scale * sign for scale, sign in zip(scales, signs, strict=True)),
        determine_density=True,
    )


@register_metric(Beta)
def _(distribution: Beta) -> FisherMetric:
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


@register_metric(MultivariateNormal)
def _(distribution: MultivariateNormal) -> FisherMetric:
    # With S = L L^T and W = L^-1 dL, the tangent dL changes S by L (W + W^T) L^T, so that the quadratic form
    # 1/2 tr(S^-1 dS S^-1 dS) is 1/2 |W + W^T|^2, whose gradient with respect to dL is L^-T (W + W^T).
    factor = distribution._unbroadcasted_scale_tril.detach().expand(distribution.scale_tril.shape)

    def back(matrix: Tensor) -> Tensor:
        solution: Tensor = torch.linalg.solve_triangular(factor.mT, matrix, upper=True)  # L^-T matrix
        return solution

    def multiply(tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        mean_part = torch.cholesky_solve(tangents[0].unsqueeze(-1), factor).squeeze(-1)
        relative = torch.linalg.solve_triangular(factor, tangents[1], upper=False)
        return mean_part, back(relative + relative.mT)

    def root(signs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return back(signs[0].unsqueeze(-1)).squeeze(-1), back((signs[1] + signs[1].mT) / math.sqrt(2))

    return FisherMetric((distribution.loc, distribution.scale_tril), multiply, root)


def exact_log_prob(distribution: Distribution, act: Tensor) -> Tensor:
    """Return the log-probabilities of actions under a :func:`frozen` distribution, in its precision."""
    try:
        return distribution.log_prob(in_double(act))
    except RuntimeError:  # a type that is not known here stayed in the network's precision, and may not mix it
        return distribution.log_prob(act)


def in_double(tensor: Tensor) -> Tensor:
    """Return a floating tensor detached and in float64; others, and those on devices without it, as they are."""
    detached = tensor.detach()  # Apple's GPUs have no float64
    return detached.double() if detached.is_floating_point() and detached.device.type != "mps" else detached


@register_frozen(Independent)
def _(distribution: Independent[Distribution]) -> Distribution:
    return Independent(frozen(distribution.base_dist), distribution.reinterpreted_batch_ndims, validate_args=False)


@register_frozen(TransformedDistribution)
def _(distribution: TransformedDistribution) -> Distribution:
    base = frozen(distribution.base_dist)
    return TransformedDistribution(base, distribution.transforms, validate_args=False)


@register_frozen(Normal)
def _(distribution: Normal) -> Distribution:
    return Normal(in_double(distribution.loc), in_double(distribution.scale), validate_args=False)


@register_frozen(Laplace)
def _(distribution: Laplace) -> Distribution:
    return Laplace(in_double(distribution.loc), in_double(distribution.scale), validate_args=False)


@register_frozen(Categorical)
def _(distribution: Categorical) -> Distribution:
    return Categorical(logits=in_double(distribution.logits), validate_args=False)


@register_frozen(Bernoulli)
def _(distribution: Bernoulli) -> Distribution:
    return Bernoulli(logits=in_double(distribution.logits), validate_args=False)


@register_frozen(Beta)
def _(distribution: Beta) -> Distribution:
    alpha, beta = distribution.concentration1, distribution.concentration0
    return Beta(in_double(alpha), in_double(beta), validate_args=False)


@register_frozen(MultivariateNormal)
def _(distribution: MultivariateNormal) -> Distribution:
    return MultivariateNormal(
        in_double(distribution.loc), scale_tril=in_double(distribution.scale_tril), validate_args=False
    )
