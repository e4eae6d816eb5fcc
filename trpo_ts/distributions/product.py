r"""One distribution over a flat action made of independent parts: :math:`p(a) = \prod_i p_i(a_i)`.

Log-probabilities, entropies and KL divergences of the parts add up, and the Fisher matrix is block diagonal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints, kl_divergence
from torch.distributions.constraints import Constraint
from torch.distributions.kl import register_kl

from trpo_ts.distributions.detached_double import detached_double, register_detached_double
from trpo_ts.distributions.fisher_metric import FisherMetric, fisher_metric, register_metric

__all__ = ["Product"]


class Product(Distribution):
    r"""The joint distribution of independent vectors, one after the other in a flat action.

    Parts may be of different kinds, as a Gaussian and an ``Independent`` Categorical; actions have the dtype that
    holds them all.

    :param parts: distributions of one batch shape, each over vectors, event shape ``(k_i,)``.
    :raises ValueError: when there is no part, or their shapes are others.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}  # the parts check their own

    def __init__(self, parts: Sequence[Distribution]) -> None:
        shapes = [(tuple(part.batch_shape), tuple(part.event_shape)) for part in parts]
        if len({batch for batch, _ in shapes}) != 1 or any(len(event) != 1 for _, event in shapes):
            raise ValueError(
                f"parts must be distributions over vectors, of one batch shape, got batch and event shapes {shapes}; "
                "wrap components with torch.distributions.Independent(part, 1)"
            )
        self.parts = tuple(parts)
        self._sizes = [part.event_shape[0] for part in parts]
        super().__init__(parts[0].batch_shape, Size([sum(self._sizes)]), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        r"""Draw actions, shape ``sample_shape + (N, k)`` with :math:`k = \sum_i k_i`."""
        return torch.cat([part.sample(Size(sample_shape)) for part in self.parts], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probabilities (log-densities) of actions, shape ``(N, k)``."""
        values = value.split(self._sizes, dim=-1)
        return _sum(part.log_prob(own) for part, own in zip(self.parts, values, strict=True))

    def entropy(self) -> Tensor:
        """Return the entropy of each distribution, in nats.

        :raises NotImplementedError: when a part has none in closed form.
        """
        return _sum(part.entropy() for part in self.parts)

    @property
    def mode(self) -> Tensor:
        """The most probable actions."""
        return torch.cat([part.mode for part in self.parts], dim=-1)

    @property
    def mean(self) -> Tensor:
        """The mean actions; not a number for categories, which have none."""
        return torch.cat([part.mean for part in self.parts], dim=-1)

    @property
    def variance(self) -> Tensor:
        """The variances of the actions' components; not a number for categories, which have none."""
        return torch.cat([part.variance for part in self.parts], dim=-1)

    @property
    def support(self) -> Constraint:
        """The parts' supports side by side."""
        return constraints.cat([part.support for part in self.parts], dim=-1, lengths=self._sizes)


@register_kl(Product, Product)  # type: ignore[untyped-decorator]
def _divergence(p: Product, q: Product) -> Tensor:
    return _sum(kl_divergence(own, other) for own, other in zip(p.parts, q.parts, strict=True))


@register_detached_double(Product)
def _detached(distribution: Product) -> Distribution:
    return Product([detached_double(part) for part in distribution.parts])


@register_metric(Product)
def _metric(distribution: Product) -> FisherMetric | None:
    metrics = [fisher_metric(part) for part in distribution.parts]
    known = [metric for metric in metrics if metric is not None]
    if len(known) < len(metrics):
        return None

    def multiply(tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        rest = iter(tangents)
        return tuple(chain.from_iterable(metric.multiply(_next(rest, metric)) for metric in known))

    def root(signs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        rest = iter(signs)
        return tuple(chain.from_iterable(metric.root(_next(rest, metric)) for metric in known))

    return FisherMetric(tuple(output for metric in known for output in metric.outputs), multiply, root)


def _next(tensors: Iterator[Tensor], metric: FisherMetric) -> list[Tensor]:
    return list(islice(tensors, len(metric.outputs)))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)
