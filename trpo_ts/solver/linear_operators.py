r"""Symmetric linear operators as plain functions from a vector ``(P,)`` to a vector ``(P,)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trpo_ts.autodiff.ranks import Shard

__all__ = ["LinearOperator", "damped", "mean_over_ranks", "weighted_sum"]

LinearOperator = Callable[[Tensor], Tensor]


def damped(operator: LinearOperator, damping: float) -> LinearOperator:
    r"""Return :math:`v \mapsto F v + c v` from :math:`v \mapsto F v`: Tikhonov damping with coefficient :math:`c`."""
    return lambda v: operator(v) + damping * v


def weighted_sum(operators: Sequence[LinearOperator], weights: Sequence[float]) -> LinearOperator:
    r"""Return :math:`v \mapsto \sum_i w_i F_i v`, the operator over all rows from those over micro-batches."""
    if len(operators) == 1 and weights[0] == 1.0:
        return operators[0]

    def product(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for operator, weight in zip(operators, weights, strict=True):
            total += weight * operator(v)
        return total

    return product


def mean_over_ranks(operator: LinearOperator, shard: Shard) -> LinearOperator:
    r"""Return :math:`v \mapsto F v` over the rows of all ranks, from the operator over this rank's rows.

    Each product is one reduction.
    """
    return operator if shard.is_whole else lambda v: shard.mean(operator(v))[0]
