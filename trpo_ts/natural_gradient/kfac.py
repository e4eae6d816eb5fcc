r"""K-FAC: a model of the Fisher matrix as a preconditioner of conjugate gradient.

Taking inputs and derivatives of the layers for independent (Martens and Grosse 2015, arXiv:1503.05671) gives

.. math:: \tilde F_{lm} = \mathbb{E}[a_l a_m^\top] \otimes \mathbb{E}[g_l g_m^\top].

The blocks between layers are kept, unless there is but one inner iteration. The model only speeds up the solution of
the true system: what the iteration converges to does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trpo_ts.checks import check_integer, check_real
from trpo_ts.natural_gradient.distributions import FisherMetric
from trpo_ts.natural_gradient.fisher import NoSecondDerivativeError
from trpo_ts.natural_gradient.kronecker import Moments, Place, moments_of, moments_of_rows
from trpo_ts.natural_gradient.layers import LayerRows
from trpo_ts.natural_gradient.parameters import Trace
from trpo_ts.natural_gradient.per_sample import PerSampleGradients
from trpo_ts.natural_gradient.preconditioner import KroneckerPreconditioner
from trpo_ts.natural_gradient.rows import evenly_spaced, row_slices

__all__ = ["KFAC"]

_SHARED = 4
"""The most samples in a pass that serves the model too, in multiples of those that it takes."""


@dataclass(frozen=True)
class KFAC:
    """The choice of K-FAC as the preconditioner of the natural gradient's solve.

    Linear and convolutional layers are modelled; all other parameters have a diagonal. Where the network has no
    such layer, or the distribution no closed-form Fisher matrix, the solve goes without.

    :param inner_iterations: iterations of conjugate gradient on the model, >= 1. One takes the diagonal blocks alone.
    :param samples: the most samples from which the model is estimated, >= 1, evenly spaced in the rollout.
    :param relative_damping: the least damping of the model, >= 0, in multiples of the mean of the layers' diagonal.
        The solution of the system does not depend on it, but what few iterations make of it does. With a model that
        is damped more than the system they keep to the directions of much curvature, which another rollout
        confirms; 0 follows the rollout most closely (``docs/benchmarks.md``).
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
        """Whether the model is to be made from a pass over all ``count`` samples that is needed anyway.

        It spares the model's own pass over :attr:`samples`, and takes the derivatives of all of them.
        """
        return count <= _SHARED * self.samples

    def moments(
        self,
        count: int,
        trace_at: Callable[[Tensor], Trace],
        metric_of: Callable[[Any], FisherMetric | None],
        *,
        device: torch.device,
        starts: Tensor | None = None,
        whole: Trace | None = None,
        micro_batch_size: int | None = None,
    ) -> Moments | None:
        """Return the moments of a batch's chosen samples; None where there is nothing to model.

        :param count: the samples of the batch.
        :param trace_at: evaluates the network on some of them, given by their indices.
        :param metric_of: the Fisher metric of the network's output.
        :param device: where the indices shall be.
        :param starts: see :func:`evenly_spaced`.
        :param whole: an evaluation of the whole batch, if there is one already.
        :param micro_batch_size: the most samples in one pass; None for all.
        """
        samples = evenly_spaced(min(self.samples, count), count, device, starts)
        if micro_batch_size is not None and micro_batch_size < len(samples):
            own_starts = None if starts is None else torch.isin(samples, starts).nonzero().flatten()
            parts = row_slices(len(samples), micro_batch_size, own_starts)
            with suppress(_NotInParts, NoSecondDerivativeError):
                return self._joined_moments(samples, parts, trace_at, metric_of)
        with torch.enable_grad():
            if whole is None or not self.shares_pass(count) or not whole.has_samples(count):
                whole = None
            trace = whole or trace_at(samples)
            metric = metric_of(trace.output)
            if metric is None or not trace.layers:
                return None
            if whole is None:
                return moments_of(trace, metric, coupled=self.coupled)
            return moments_of(trace, metric.of_samples(samples), coupled=self.coupled, samples=samples)

    def _joined_moments(
        self,
        samples: Tensor,
        parts: Sequence[slice],
        trace_at: Callable[[Tensor], Trace],
        metric_of: Callable[[Any], FisherMetric | None],
    ) -> Moments | None:
        """Return the moments from one pass for each part of the samples: those of a pass over all, up to rounding.

        :raises _NotInParts: when a layer's rows are not those of the samples, as in a recurrent network.
        """
        found = []
        for rows in parts:
            with torch.enable_grad():
                trace = trace_at(samples[rows])
                metric = metric_of(trace.output)
                if metric is None or not trace.layers:
                    return None
                if not trace.has_samples(rows.stop - rows.start):
                    raise _NotInParts
                found.append(moments_of(trace, metric, coupled=self.coupled, place=Place(rows, len(samples))))
            del trace, metric  # none outlives its turn: the memory of one pass is the most that is taken
        return Moments.joined(found, [(rows.stop - rows.start) / len(samples) for rows in parts])

    def moments_of(self, gradients: PerSampleGradients) -> Moments:
        """Return the moments of a batch's chosen samples, where the gradient of each is known."""
        count = len(gradients.rows[0].inputs)
        samples = evenly_spaced(min(self.samples, count), count, gradients.rows[0].inputs.device)
        chosen = [LayerRows(row.name, row.inputs[samples], row.derivatives[samples]) for row in gradients.rows]
        return moments_of_rows(chosen, gradients.parts, len(samples), coupled=self.coupled)

    def at(self, moments: Moments, slices: Mapping[str, slice], damping: float) -> KroneckerPreconditioner:
        """Return the preconditioner from a batch's moments; see :class:`KroneckerPreconditioner`."""
        if self.relative_damping > 0.0:
            damping = max(damping, self.relative_damping * moments.mean_curvature())
        return KroneckerPreconditioner(moments, slices, damping=damping, inner_iterations=self.inner_iterations)


class _NotInParts(Exception):  # noqa: N818  it is no error of anybody's
    """The samples' moments take one pass over all of them."""
