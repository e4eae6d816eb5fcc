r"""The factors of a Kronecker-factored model of the Fisher matrix.

For the weights of layers :math:`l, m` the Fisher matrix is a mean over samples of
:math:`a_l a_m^\top \otimes g_l g_m^\top`, with the layers' inputs :math:`a` and the derivatives :math:`g` with
respect to their outputs. The model replaces the mean of the product by the product of the means,
:math:`\mathbb{E}[a_l a_m^\top] \otimes \mathbb{E}[g_l g_m^\top]` (Martens and Grosse 2015, arXiv:1503.05671,
section 3).

The derivatives are those of :math:`\xi^\top B^\top z`, with a vector of random signs :math:`\xi` per sample and
:math:`B B^\top = M`. Since :math:`\mathbb{E}[\xi\xi^\top] = I`, their second moment is the Fisher matrix, and one
backward pass gives those of all layers. No action is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from trpo_ts.autodiff.flat_parameters import Trace
from trpo_ts.autodiff.gauss_newton import GaussNewton, NoSecondDerivativeError
from trpo_ts.autodiff.layer_calls import LayerPairs, layer_derivatives
from trpo_ts.autodiff.matrix_products import matmul
from trpo_ts.distributions.fisher_metric import FisherMetric

__all__ = [
    "FactorGroup",
    "FactorsDifferError",
    "KroneckerFactors",
    "Place",
    "factors_of_rows",
    "kronecker_factors",
]


@dataclass(frozen=True)
class FactorGroup:
    """Layers whose rows correspond, one to one, and their factors.

    :param names: the layers.
    :param shapes: each layer's matrix ``[W | b]`` as (outputs, inputs), a bias counting as one more input.
    :param inputs: the outer product of all layers' inputs, side by side, summed over a sample's rows.
    :param derivatives: the outer product of all layers' output derivatives, averaged over rows.
    :param pairs_per_row: how many rows a sample has: positions of a convolution, calls of a layer.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    inputs: Tensor
    derivatives: Tensor
    pairs_per_row: float

    def trace(self) -> Tensor:
        """Return the trace of the diagonal blocks, sum_l tr(A_ll) tr(G_ll)."""
        heights, widths = zip(*self.shapes, strict=True)
        of_inputs, of_derivatives = self.inputs.diagonal().split(widths), self.derivatives.diagonal().split(heights)
        return torch.stack([a.sum() * g.sum() for a, g in zip(of_inputs, of_derivatives, strict=True)]).sum()


@dataclass(frozen=True)
class KroneckerFactors:
    """The second moments over samples that the model consists of.

    :param groups: the layers.
    :param diagonal: the estimated diagonal for each parameter outside of layers, by name.
    """

    groups: tuple[FactorGroup, ...]
    diagonal: dict[str, Tensor]

    def mean_curvature(self) -> float:
        """Return the mean of the model's diagonal over the layers' parameters; 0.0 without layers."""
        size = sum(height * width for group in self.groups for height, width in group.shapes)
        return float(torch.stack([group.trace() for group in self.groups]).sum()) / size if size else 0.0

    @property
    def structure(self) -> tuple[object, ...]:
        """What the factors are of: the layers, how they are grouped, their rows for a sample, the other parameters."""
        groups = tuple((group.names, group.shapes, group.pairs_per_row) for group in self.groups)
        return groups, tuple(self.diagonal)

    @staticmethod
    def joined(parts: Sequence[KroneckerFactors], shares: Sequence[float]) -> KroneckerFactors:
        """Return the factors over all samples from those over parts, given each part's share of the samples.

        :raises FactorsDifferError: when the parts do not have the same layers, called alike.
        """
        first, *others = parts
        if any(part.structure != first.structure for part in others):
            raise FactorsDifferError("the parts call different layers")
        groups = []
        for of_parts in zip(*(part.groups for part in parts), strict=True):
            inputs = _weighted_mean([group.inputs for group in of_parts], shares)
            derivatives = _weighted_mean([group.derivatives for group in of_parts], shares)
            groups.append(replace(of_parts[0], inputs=inputs, derivatives=derivatives))
        diagonal = {name: _weighted_mean([part.diagonal[name] for part in parts], shares) for name in first.diagonal}
        return KroneckerFactors(tuple(groups), diagonal)


class FactorsDifferError(RuntimeError):
    """The factors of parts of the samples do not add up to those of all.

    So it is where a layer's rows are not the samples, as in a recurrent network, and where the network decides by the
    samples which layers it calls, as with a head for each task.
    """


@dataclass(frozen=True)
class Place:
    """Which samples a pass holds, of how many: each has its own signs, whatever pass it is in."""

    rows: slice
    count: int


def _weighted_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the sum of the tensors times the weights, which sum to 1."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def _random_signs(like: Sequence[Tensor], place: Place | None = None) -> list[Tensor]:
    """Return tensors of random signs, always the same ones; the global generators are left alone."""
    if place is not None:
        # A part's signs are its rows of those of all samples, so that the parts' factors add up to those of one pass.
        whole = _random_signs([tensor.new_empty(1).expand(place.count, *tensor.shape[1:]) for tensor in like])
        return [signs[place.rows] for signs in whole]
    shapes = tuple(tuple(tensor.shape) for tensor in like)
    # Few signs are kept from update to update; many would fill memory, and are drawn again past the cache.
    draw = _drawn_signs if sum(tensor.numel() for tensor in like) <= _KEPT else _drawn_signs.__wrapped__
    return [sign.to(tensor.dtype) for sign, tensor in zip(draw(shapes, like[0].device), like, strict=True)]


_KEPT = 2**16
"""So many signs are drawn once and kept for the next update."""


@lru_cache(maxsize=8)
def _drawn_signs(shapes: Sequence[tuple[int, ...]], device: torch.device) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [
        torch.randint(0, 2, shape, generator=generator, device=device).mul_(2).sub_(1).to(torch.float32)
        for shape in shapes
    ]


def kronecker_factors(
    trace: Trace,
    metric: FisherMetric,
    *,
    coupled: bool = True,
    samples: Tensor | None = None,
    place: Place | None = None,
) -> KroneckerFactors:
    """Return the factors of a batch.

    :param trace: the network's evaluation, from which the metric's outputs were computed.
    :param metric: the distributions' parameters and Fisher matrices; of the chosen samples alone where some are chosen.
    :param coupled: whether layers share a group where they can, which keeps the blocks between them.
    :param samples: the indices of the chosen samples in the first dimension of each layer's output; None means all.
    :param place: which of the samples the batch is, when it is a part of them; see :meth:`KroneckerFactors.joined`.
    :raises FactorsDifferError: when the chosen samples do not reach a layer, which a pass over them alone may not call.
    :raises NoSecondDerivativeError: when the batch is a part, and the diagonal of parameters outside of layers takes a
        second derivative that the network lacks: the estimate without one takes all samples at once.
    """
    rows = _layer_rows(trace, metric, samples, place)
    groups = _groups(rows, trace.parts, len(metric.outputs[0]), coupled) if rows else ()
    layered = {f"{name}{kind}" for group in groups for name in group.names for kind in ("weight", "bias")}
    others = {name: part for name, part in trace.parts.items() if name not in layered}
    return KroneckerFactors(groups, _diagonal(others, metric, whole=place is None))


def factors_of_rows(
    rows: Sequence[LayerPairs], parts: Mapping[str, Tensor], count: int, *, coupled: bool
) -> KroneckerFactors:
    """Return the factors of a network that consists of these layers, from their rows for ``count`` samples."""
    return KroneckerFactors(_groups(rows, parts, count, coupled), {})


def _groups(
    rows: Sequence[LayerPairs], parts: Mapping[str, Tensor], count: int, coupled: bool
) -> tuple[FactorGroup, ...]:
    inputs: dict[str, list[Tensor]] = {}
    derivatives: dict[str, list[Tensor]] = {}
    for layer in rows:
        inputs.setdefault(layer.name, []).append(layer.inputs)
        derivatives.setdefault(layer.name, []).append(layer.derivatives)
    # Layers that are called once, with equally many rows, see the same samples and positions in the same order.
    by_rows: dict[object, list[str]] = {}
    for name, calls in inputs.items():
        by_rows.setdefault(len(calls[0]) if coupled and len(calls) == 1 else name, []).append(name)
    groups = []
    for names in by_rows.values():
        columns, shapes = [], []
        for name in names:
            columns.append(_joined(inputs[name]))
            if f"{name}bias" in parts:
                columns.append(columns[-1].new_ones(len(columns[-1]), 1))
            width = inputs[name][0].shape[1] + (f"{name}bias" in parts)
            shapes.append((derivatives[name][0].shape[1], width))
        a = torch.cat(columns, dim=1)  # (rows, inputs of all layers), a column of ones for each bias
        g = torch.cat([_joined(derivatives[name]) for name in names], dim=1)  # (rows, outputs of all layers)
        # A sample of a convolution has a row for each position. Its block is the sum over positions of a a^T times the
        # mean over positions of g g^T (Grosse and Martens 2016, arXiv:1602.01407, section 3): hence count and len(g).
        moments = matmul(a.mT, a) / count, matmul(g.mT, g) / max(len(g), 1)
        groups.append(FactorGroup(tuple(names), tuple(shapes), *moments, pairs_per_row=len(g) / count))
    return tuple(groups)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _layer_rows(trace: Trace, metric: FisherMetric, samples: Tensor | None, place: Place | None) -> list[LayerPairs]:
    """Return the rows of the layers that may move, with the derivatives for one draw of signs.

    They have the parameters' dtype, also where a layer computed in another one, as under autocast.
    """
    pairs = [
        (output, cotangent)
        for output, cotangent in zip(metric.outputs, metric.root(_random_signs(metric.outputs, place)), strict=True)
        if output.requires_grad
    ]
    if not pairs or not trace.layers:
        return []
    outputs, cotangents = zip(*pairs, strict=True)
    derivatives = layer_derivatives(outputs, cotangents, trace.layers)
    calls = zip(trace.layers, derivatives, strict=True)
    rows = [r for call, derivative in calls for r in call.rows(derivative, samples)]
    some = samples is not None and len(samples) < trace.layers[0].shape[0]
    if some and not bool(torch.stack([r.derivatives.any() for r in rows]).all()):
        raise FactorsDifferError("a layer has no effect on the chosen samples")
    return [r.to(trace.theta.dtype) for r in rows if f"{r.name}weight" in trace.parts]


def _diagonal(others: dict[str, Tensor], metric: FisherMetric, *, whole: bool) -> dict[str, Tensor]:
    r"""Estimate the diagonal of the parameters' own block as :math:`\xi \odot F \xi`, with random signs :math:`\xi`.

    It is exact where the block is diagonal, as for a free standard deviation, the usual parameter outside of layers.
    Elsewhere an estimate may fall below zero (Bekas, Kokiopoulou and Saad 2007, An estimator for the diagonal of a
    matrix).
    """
    if not others:
        return {}
    probe = _random_signs(list(others.values()))
    try:
        product = GaussNewton(metric, list(others.values())).product(probe)
    except NoSecondDerivativeError:
        if not whole:
            raise
        return _mean_diagonal(others, metric)
    return {name: (sign * value).reshape(-1) for name, sign, value in zip(others, probe, product, strict=True)}


def _mean_diagonal(others: dict[str, Tensor], metric: FisherMetric) -> dict[str, Tensor]:
    r"""Estimate the mean of each parameter's diagonal from the squared length of one :math:`J^\top B \xi`."""
    live = [i for i, output in enumerate(metric.outputs) if output.requires_grad]
    roots = metric.root(_random_signs(metric.outputs))
    gradients = torch.autograd.grad(
        [metric.outputs[i] for i in live],
        list(others.values()),
        [roots[i] for i in live],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    count = metric.outputs[0].shape[0]
    return {
        name: (gradient.square().mean() / count).expand(gradient.numel())
        for name, gradient in zip(others, gradients, strict=True)
    }
