r"""The Fisher matrix :math:`M` of an action distribution in its own parameters.

For a distribution with parameters :math:`z` (for a Gaussian its mean and standard deviation)

.. math:: M(z) = \mathbb{E}_{a \sim p_z}\left[\nabla_z \log p_z(a) \, \nabla_z \log p_z(a)^\top\right]

has a closed form. It is the Hessian of :math:`D_{KL}(p_z \| p_{z'})` with respect to :math:`z'` at :math:`z' = z`
(Schulman et al. 2015, arXiv:1502.05477, appendix C.1, where it is also called :math:`M`).

:func:`fisher_metric` looks a distribution up by its very type, since a subclass may have another density. Types that
it does not know work too: their Fisher products are those of the Hessian of the KL divergence. :func:`register_metric`
makes another type known. The closed forms of torch's families are in :mod:`trpo_ts.distributions.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["FisherMetric", "diagonal_metric", "fisher_metric", "register_metric"]


@dataclass(frozen=True)
class FisherMetric:
    r"""A distribution's own parameters, and the product with their Fisher matrix.

    :param outputs: the tensors :math:`z`, each of shape ``(N, ...)``, as functions of the policy's parameters.
    :param multiply: maps one tangent per output to :math:`M(z)` times the tangents, row by row.
    :param root: maps tensors of the outputs' shapes to :math:`B(z)` times them, where :math:`B B^\top = M`: applied
        to independent signs it gives vectors whose second moment is :math:`M`.
    :param determine_density: whether ``log_prob`` is computed from these very tensors and from nothing else that
        depends on the policy's parameters, so that its gradient may be taken by way of them.
    """

    outputs: tuple[Tensor, ...]
    multiply: Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
    root: Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
    determine_density: bool = False

    def of_rows(self, rows: Tensor) -> FisherMetric:
        """Return the metric of some of the rows, given by their indices."""

        def in_all_rows(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [
                torch.zeros_like(output).index_copy_(0, rows, tensor)
                for output, tensor in zip(self.outputs, tensors, strict=True)
            ]

        return FisherMetric(
            tuple(output[rows] for output in self.outputs),
            lambda tangents: tuple(product[rows] for product in self.multiply(in_all_rows(tangents))),
            lambda signs: tuple(product[rows] for product in self.root(in_all_rows(signs))),
            self.determine_density,
        )


METRICS: dict[type[Distribution], Callable[[Any], FisherMetric | None]] = {}


def fisher_metric(distribution: Distribution) -> FisherMetric | None:
    """Return the distribution's closed-form Fisher metric, or None where none is known."""
    find = METRICS.get(type(distribution))
    return None if find is None else find(distribution)


_Metric = TypeVar("_Metric", bound=Callable[[Any], FisherMetric | None])


def register_metric(kind: type[Distribution]) -> Callable[[_Metric], _Metric]:
    """Return a decorator: the function gives the Fisher metric of distributions of exactly this type."""

    def register(function: _Metric) -> _Metric:
        METRICS[kind] = function
        return function

    return register


def diagonal_metric(*roots: tuple[Tensor, Tensor]) -> FisherMetric:
    """Return the metric with a diagonal :math:`M`, from the outputs and the square roots of their diagonals."""
    outputs, scales = zip(*roots, strict=True)
    squares = [scale.square() for scale in scales]
    return FisherMetric(
        tuple(outputs),
        lambda tangents: tuple(square * tangent for square, tangent in zip(squares, tangents, strict=True)),
        lambda signs: tuple(scale * sign for scale, sign in zip(scales, signs, strict=True)),
        determine_density=True,
    )
