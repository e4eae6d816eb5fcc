r"""K-FAC: a model of the Fisher matrix as a preconditioner of conjugate gradient.

Treating inputs and derivatives of the layers as independent (Martens and Grosse 2015, arXiv:1503.05671) gives

.. math:: \tilde F_{lm} = \mathbb{E}[a_l a_m^\top] \otimes \mathbb{E}[g_l g_m^\top].

The blocks between layers are kept, unless there is but one inner iteration. The model only speeds up the solution of
the true system: what the iteration converges to does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trpo_ts.autodiff.flat_parameters import Trace
from trpo_ts.autodiff.gauss_newton import NoSecondDerivativeError
from trpo_ts.autodiff.per_sample_gradients import PerSampleGradients
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import evenly_spaced
from trpo_ts.distributions.fisher_metric import FisherMetric
from trpo_ts.kfac.factors import (
    FactorsDifferError,
    KroneckerFactors,
    Place,
    factors_of_rows,
    kronecker_factors,
)
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.validation.parameter_values import check_integer, check_real

__all__ = ["KFAC"]

_SHARED = 4
"""The most samples in a pass that serves the model too, in multiples of those that it takes."""

Metric = Callable[[Any], FisherMetric | None]
"""The Fisher metric of a network's output; None where there is no closed form."""


@dataclass(frozen=True)
class KFAC:
    """The settings of K-FAC as the preconditioner of the natural gradient's solve.

    Linear and convolutional layers are modelled; all other parameters have a diagonal. Where the network has no
    such layer, or the distribution no closed-form Fisher matrix, the solve has no preconditioner.

    :param inner_iterations: iterations of conjugate gradient on the model, >= 1. One takes the diagonal blocks alone.
    :param samples: the most samples from which the model is estimated, >= 1, evenly spaced in the rollout.
    :param relative_damping: the least damping of the model, >= 0, in multiples of the mean of the layers' diagonal.
        The solution of the system does not depend on it, but what few iterations make of it does. With a model that
        is damped more than the system they keep to high-curvature directions, which also hold on new data; 0
        follows the rollout most closely (``docs/benchmarks.md``).
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
        """Whether the model has blocks between layers."""
        return self.inner_iterations > 1

    def shares_pass(self, count: int) -> bool:
        """Whether the model reuses the update's pass: for rollouts of at most 4 times :attr:`samples` rows.

        That spares a pass of its own over :attr:`samples`, but takes the derivatives of all rows.
        """
        return count <= _SHARED * self.samples

    def fit(
        self,
        network: RowFunction,
        theta: Tensor,
        metric_of: Metric,
        *,
        damping: float,
        whole: Trace | None = None,
    ) -> KroneckerPreconditioner | None:
        r"""Return the preconditioner for :math:`F + cI` at :math:`\theta`; None where there is nothing to model.

        :param network: the network over the rows of a rollout.
        :param theta: the leaf ``(P,)``.
        :param metric_of: the Fisher metric of the network's output.
        :param damping: :math:`c`.
        :param whole: a forward pass over all rows, if there is one already.
        """
        return self._preconditioner(self._factors(network, theta, metric_of, whole), network, damping)

    def fit_gradients(
        self, gradients: PerSampleGradients, network: RowFunction, *, damping: float
    ) -> KroneckerPreconditioner | None:
        """Return the same as :meth:`fit` for a network of one output, whose gradient for each row is known."""
        count = len(gradients.rows[0].inputs)
        samples = evenly_spaced(min(self.samples, count), count, gradients.rows[0].inputs.device)
        chosen = [row.of_rows(samples) for row in gradients.rows]
        factors = factors_of_rows(chosen, gradients.parts, len(samples), coupled=self.coupled)
        return self._preconditioner(factors, network, damping)

    def _preconditioner(
        self, factors: KroneckerFactors | None, network: RowFunction, damping: float
    ) -> KroneckerPreconditioner | None:
        if factors is None or not (factors.groups or factors.diagonal):
            return None
        if self.relative_damping > 0.0:
            damping = max(damping, self.relative_damping * factors.mean_curvature())
        return KroneckerPreconditioner(
            factors, network.parameters.slices, damping=damping, inner_iterations=self.inner_iterations
        )

    def _factors(
        self, network: RowFunction, theta: Tensor, metric_of: Metric, whole: Trace | None
    ) -> KroneckerFactors | None:
        samples, parts = network.spaced(min(self.samples, network.count))
        if len(parts) > 1:
            with suppress(FactorsDifferError, NoSecondDerivativeError):  # then one pass takes all samples
                return self._joined_factors(network, theta, metric_of, samples, parts)
        with torch.enable_grad():
            if whole is not None and self.shares_pass(network.count) and whole.has_rows(network.count):
                with suppress(FactorsDifferError):
                    return self._factors_of_pass(whole, metric_of, chosen=samples)
            return self._factors_of_pass(network.trace(theta, samples, record_layers=True), metric_of)

    def _factors_of_pass(
        self, trace: Trace, metric_of: Metric, *, chosen: Tensor | None = None, place: Place | None = None
    ) -> KroneckerFactors | None:
        metric = metric_of(trace.output)
        if metric is None or not trace.layers:
            return None
        metric = metric if chosen is None else metric.of_rows(chosen)
        return kronecker_factors(trace, metric, coupled=self.coupled, samples=chosen, place=place)

    def _joined_factors(
        self, network: RowFunction, theta: Tensor, metric_of: Metric, samples: Tensor, parts: list[slice]
    ) -> KroneckerFactors | None:
        """Return the factors from one pass for each part of the samples: those of a pass over all, up to rounding.

        :raises FactorsDifferError: when they are not, as in a recurrent network, or with a head for each task.
        """
        found = []
        for rows in parts:
            with torch.enable_grad():
                trace = network.trace(theta, samples[rows], record_layers=True)
                if not trace.has_rows(rows.stop - rows.start):
                    raise FactorsDifferError("a layer's rows are not the samples")
                found.append(self._factors_of_pass(trace, metric_of, place=Place(rows, len(samples))))
            del trace  # freed before the next pass, so that peak memory is that of one
        known = [factors for factors in found if factors is not None]
        if not known:
            return None
        if len(known) < len(found):
            raise FactorsDifferError("some parts call no layer")
        return KroneckerFactors.joined(known, [(rows.stop - rows.start) / len(samples) for rows in parts])
