r"""K-FAC: an approximation of the Fisher matrix as a preconditioner of conjugate gradient.

Treating inputs :math:`y` and output derivatives :math:`h` of the layers :math:`l, m` as independent (Martens and Grosse
2015, arXiv:1503.05671) gives

.. math:: \tilde F_{lm} = \mathbb{E}[y_l y_m^\top] \otimes \mathbb{E}[h_l h_m^\top].

The blocks between layers are kept, unless there is but one inner iteration. The approximation only speeds up the
solution of the true system: what the iteration converges to does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trpo_ts.autodiff.flat_parameters import ForwardPass
from trpo_ts.autodiff.gauss_newton import NoSecondDerivativeError
from trpo_ts.autodiff.per_sample_gradients import PerSampleGradients
from trpo_ts.autodiff.ranks import Shard
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.distributions.fisher_metric import FisherMetric
from trpo_ts.kfac.factors import (
    FactorsDifferError,
    KroneckerFactors,
    Place,
    factors_of_pairs,
    kronecker_factors,
)
from trpo_ts.kfac.pooled_factors import pooled
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.validation.parameter_values import check_integer, check_real

__all__ = ["KFAC"]

_SHARED = 4
"""The most rows in a pass of the update that serves K-FAC too, in multiples of :attr:`KFAC.samples`."""

Metric = Callable[[Any], FisherMetric | None]
"""The Fisher metric of a network's output; None where there is no closed form."""


@dataclass(frozen=True)
class KFAC:
    """The settings of K-FAC as the preconditioner of the natural gradient's solve.

    Linear and convolutional layers have Kronecker factors; all other parameters have a diagonal. Where the network has
    no such layer, or the distribution no closed-form Fisher matrix, the solve has no preconditioner.

    :param inner_iterations: iterations of conjugate gradient on the approximation, >= 1. One takes the diagonal blocks
        alone.
    :param samples: the most rows of the rollout from which the factors are estimated, >= 1, evenly spaced.
    :param relative_damping: the least damping of the approximation, >= 0, in multiples of the mean of the layers'
        diagonal. The solution of the system does not depend on it, but what few iterations make of it does. With an
        approximation that is damped more than the system they keep to high-curvature directions, which also hold on new
        data; 0 follows the rollout most closely (``docs/benchmarks.md``).
    """

    inner_iterations: int = 4
    samples: int = 512
    relative_damping: float = 5.0

    def __post_init__(self) -> None:
        check_integer("inner_iterations", self.inner_iterations, 1)
        check_integer("samples", self.samples, 1)
        check_real("relative_damping", self.relative_damping, 0.0)

    @property
    def coupled(self) -> bool:
        """Whether the approximation has blocks between layers."""
        return self.inner_iterations > 1

    def shares_pass(self, count: int) -> bool:
        """Whether the factors come from the update's own pass: for rollouts of at most 4 times :attr:`samples` rows.

        That spares a pass of its own over :attr:`samples`, but takes the derivatives of all rows.
        """
        return count <= _SHARED * self.samples

    def fit(
        self,
        row_function: RowFunction,
        theta: Tensor,
        metric_of: Metric,
        *,
        damping: float,
        forward_pass: ForwardPass | None = None,
    ) -> KroneckerPreconditioner | None:
        r"""Return the preconditioner for :math:`F + cI` at :math:`\theta`; None where there is nothing to factor.

        :param row_function: the network over the rows of a rollout.
        :param theta: the leaf ``(P,)``.
        :param metric_of: the Fisher metric of the network's output.
        :param damping: :math:`c`.
        :param forward_pass: one over all rows at :math:`\theta`, if there is one already.
        """
        return self._preconditioner(self._factors(row_function, theta, metric_of, forward_pass), row_function, damping)

    def fit_gradients(
        self, gradients: PerSampleGradients, row_function: RowFunction, *, damping: float
    ) -> KroneckerPreconditioner | None:
        """Return the same as :meth:`fit` for a network of one output, whose gradient for each row is known."""
        count = min(self.samples, row_function.shard.total)
        rows, _ = row_function.evenly_spaced(count)
        shard = row_function.shard_of(rows, count)
        factors = None
        if len(rows):
            pairs = [layer.of_rows(rows) for layer in gradients.pairs]
            factors = factors_of_pairs(pairs, gradients.views, len(rows), coupled=self.coupled)
        of_all = pooled(factors, row_function, shard, gradients.pairs[0].inputs)
        return self._preconditioner(of_all, row_function, damping)

    def _preconditioner(
        self, factors: KroneckerFactors | None, row_function: RowFunction, damping: float
    ) -> KroneckerPreconditioner | None:
        if factors is None or not (factors.groups or factors.diagonal):
            return None
        if self.relative_damping > 0.0:
            damping = max(damping, self.relative_damping * factors.mean_curvature())
        return KroneckerPreconditioner(
            factors, row_function.parameters.slices, damping=damping, inner_iterations=self.inner_iterations
        )

    def _factors(
        self, row_function: RowFunction, theta: Tensor, metric_of: Metric, forward_pass: ForwardPass | None
    ) -> KroneckerFactors | None:
        """Return the factors of the chosen rows, those of all ranks."""
        count = min(self.samples, row_function.shard.total)
        chosen, micro_batches = row_function.evenly_spaced(count)
        shard, factors = row_function.shard_of(chosen, count), None
        if micro_batches:
            factors = self._own_factors(row_function, theta, metric_of, forward_pass, chosen, micro_batches, shard)
        return pooled(factors, row_function, shard, theta)

    def _own_factors(
        self,
        row_function: RowFunction,
        theta: Tensor,
        metric_of: Metric,
        forward_pass: ForwardPass | None,
        chosen: Tensor,
        micro_batches: list[slice],
        shard: Shard,
    ) -> KroneckerFactors | None:
        """Return the factors of this rank's chosen rows."""
        if len(micro_batches) > 1:
            with suppress(FactorsDifferError, NoSecondDerivativeError):  # then one pass takes all chosen rows
                return self._joined_factors(row_function, theta, metric_of, chosen, micro_batches, shard)
        place = None if shard.is_whole else Place.of(shard, slice(0, len(chosen)))
        with torch.enable_grad():
            if (
                forward_pass is not None
                and self.shares_pass(row_function.count)
                and forward_pass.has_rows(row_function.count)
            ):
                with suppress(FactorsDifferError):
                    return self._factors_of_pass(forward_pass, metric_of, chosen=chosen, place=place)
            own_pass = row_function.forward_pass(theta, chosen, record_layers=True)
            return self._factors_of_pass(own_pass, metric_of, place=place)

    def _factors_of_pass(
        self,
        forward_pass: ForwardPass,
        metric_of: Metric,
        *,
        chosen: Tensor | None = None,
        place: Place | None = None,
        whole: bool = True,
    ) -> KroneckerFactors | None:
        metric = metric_of(forward_pass.value)
        if metric is None or not forward_pass.layer_calls:
            return None
        metric = metric if chosen is None else metric.of_rows(chosen)
        return kronecker_factors(forward_pass, metric, coupled=self.coupled, chosen=chosen, place=place, whole=whole)

    def _joined_factors(
        self,
        row_function: RowFunction,
        theta: Tensor,
        metric_of: Metric,
        chosen: Tensor,
        micro_batches: list[slice],
        shard: Shard,
    ) -> KroneckerFactors | None:
        """Return the factors from a pass for each micro-batch of chosen rows: those of a single pass up to rounding.

        :raises FactorsDifferError: when they are not, as in a recurrent network, or with a head for each task.
        """
        found = []
        for rows in micro_batches:
            with torch.enable_grad():
                forward_pass = row_function.forward_pass(theta, chosen[rows], record_layers=True)
                if not forward_pass.has_rows(rows.stop - rows.start):
                    raise FactorsDifferError("a layer's pairs are not one for each row")
                found.append(self._factors_of_pass(forward_pass, metric_of, place=Place.of(shard, rows), whole=False))
            del forward_pass  # freed before the next pass, so that peak memory is that of one
        known = [factors for factors in found if factors is not None]
        if not known:
            return None
        if len(known) < len(found):
            raise FactorsDifferError("some micro-batches call no layer")
        return KroneckerFactors.joined(known, [(rows.stop - rows.start) / len(chosen) for rows in micro_batches])
