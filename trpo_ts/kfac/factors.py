r"""The factors of K-FAC's approximation of the Fisher matrix.

For the weights of layers :math:`l, m` the Fisher matrix is a mean over the rows of
:math:`y_l y_m^\top \otimes h_l h_m^\top`, with the layers' inputs :math:`y` and the derivatives :math:`h` with
respect to their outputs. K-FAC replaces the mean of the product by the product of the means,

.. math:: \tilde F_{lm} = \Omega_{lm} \otimes \Gamma_{lm}, \qquad
          \Omega_{lm} = \mathbb{E}[y_l y_m^\top], \quad \Gamma_{lm} = \mathbb{E}[h_l h_m^\top]

(Martens and Grosse 2015, arXiv:1503.05671, section 3). That paper calls the inputs :math:`a`, the derivatives
:math:`g`, and the factors :math:`A` and :math:`G`, letters that TRPO's paper has other uses for; :math:`\Omega` and
:math:`\Gamma` are those of Grosse and Martens 2016, arXiv:1602.01407.

The derivatives are those of :math:`\xi^\top B^\top z`, with a vector of random signs :math:`\xi` per row and
:math:`B B^\top = M`. Since :math:`\mathbb{E}[\xi\xi^\top] = I`, their second moment is the Fisher matrix, and one
backward pass gives those of all layers. No action is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from trpo_ts.autodiff.flat_parameters import ForwardPass
from trpo_ts.autodiff.gauss_newton import GaussNewton, NoSecondDerivativeError
from trpo_ts.autodiff.layer_calls import LayerPairs, layer_derivatives
from trpo_ts.autodiff.matrix_products import matmul
from trpo_ts.autodiff.ranks import Shard
from trpo_ts.distributions.fisher_metric import FisherMetric

__all__ = [
    "FactorGroup",
    "FactorsDifferError",
    "KroneckerFactors",
    "Place",
    "factors_of_pairs",
    "kronecker_factors",
]


@dataclass(frozen=True)
class FactorGroup:
    r"""Layers whose pairs of input and derivative correspond, one to one, and their factors.

    :param names: the layers.
    :param shapes: each layer's matrix ``[W | b]`` as (outputs, inputs), a bias counting as one more input.
    :param input_factor: :math:`\Omega` of all layers' inputs side by side: the outer product, summed over a row's pairs
        and averaged over the rows.
    :param derivative_factor: :math:`\Gamma` of all layers' derivatives side by side: the outer product, averaged over
        the pairs.
    :param pairs_per_row: how many pairs a row has: positions of a convolution, calls of a layer.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    input_factor: Tensor
    derivative_factor: Tensor
    pairs_per_row: float

    def trace(self) -> Tensor:
        """Return the trace of the diagonal blocks, sum_l tr(Omega_ll) tr(Gamma_ll)."""
        heights, widths = zip(*self.shapes, strict=True)
        omegas, gammas = self.input_factor.diagonal().split(widths), self.derivative_factor.diagonal().split(heights)
        return torch.stack([omega.sum() * gamma.sum() for omega, gamma in zip(omegas, gammas, strict=True)]).sum()


@dataclass(frozen=True)
class KroneckerFactors:
    """The second moments over the rows that the approximation consists of.

    :param groups: the layers.
    :param diagonal: the estimated diagonal for each parameter outside of layers, by name.
    """

    groups: tuple[FactorGroup, ...]
    diagonal: dict[str, Tensor]

    def mean_curvature(self) -> float:
        """Return the mean of the approximation's diagonal over the layers' parameters; 0.0 without layers."""
        size = sum(height * width for group in self.groups for height, width in group.shapes)
        return float(torch.stack([group.trace() for group in self.groups]).sum()) / size if size else 0.0

    @property
    def structure(self) -> tuple[object, ...]:
        """What the factors are of: the layers, how they are grouped, their pairs per row, the other parameters."""
        groups = tuple((group.names, group.shapes, group.pairs_per_row) for group in self.groups)
        return groups, tuple(self.diagonal)

    @staticmethod
    def joined(factors: Sequence[KroneckerFactors], shares: Sequence[float]) -> KroneckerFactors:
        """Return the factors over all rows from those of micro-batches, given each one's share of the rows.

        :raises FactorsDifferError: when the micro-batches do not have the same layers, called alike.
        """
        first, *others = factors
        if any(other.structure != first.structure for other in others):
            raise FactorsDifferError("the micro-batches call different layers")
        groups = []
        for same_layers in zip(*(one.groups for one in factors), strict=True):
            input_factor = _weighted_mean([group.input_factor for group in same_layers], shares)
            derivative_factor = _weighted_mean([group.derivative_factor for group in same_layers], shares)
            groups.append(replace(same_layers[0], input_factor=input_factor, derivative_factor=derivative_factor))
        diagonal = {name: _weighted_mean([one.diagonal[name] for one in factors], shares) for name in first.diagonal}
        return KroneckerFactors(tuple(groups), diagonal)


class FactorsDifferError(RuntimeError):
    """The factors of micro-batches, or of chosen rows, are not those of a single pass over the same rows.

    So it is where a layer's pairs are not one for each row, as in a recurrent network, and where the network decides by
    the rows which layers it calls, as with a head for each task.
    """


@dataclass(frozen=True)
class Place:
    """Which rows a pass holds, of how many: each has its own signs, whatever pass it is in, on whatever rank."""

    rows: slice
    count: int

    @classmethod
    def of(cls, shard: Shard, rows: slice) -> Place:
        """Return the place of some of a rank's rows among those of all ranks."""
        return cls(slice(shard.start + rows.start, shard.start + rows.stop), shard.total)


def _weighted_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the sum of the tensors times the weights, which sum to 1."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def _random_signs(like: Sequence[Tensor], place: Place | None = None) -> list[Tensor]:
    """Return tensors of random signs, always the same ones; the global generators are left alone."""
    if place is not None:
        # A micro-batch takes its rows of the signs of all rows, so that the factors add up to those of one pass.
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
    forward_pass: ForwardPass,
    metric: FisherMetric,
    *,
    coupled: bool = True,
    chosen: Tensor | None = None,
    place: Place | None = None,
    whole: bool = True,
) -> KroneckerFactors:
    """Return the factors from one forward pass.

    :param forward_pass: the network's evaluation, from which the metric's outputs were computed.
    :param metric: the distributions' parameters and Fisher matrices; of the chosen rows alone where some are chosen.
    :param coupled: whether layers share a group where they can, which keeps the blocks between them.
    :param chosen: the indices of the chosen rows in the first dimension of each layer's output; None means all.
    :param place: which rows the pass holds, when there are others; see :meth:`KroneckerFactors.joined`.
    :param whole: whether the pass holds all rows of this process.
    :raises FactorsDifferError: when the chosen rows do not reach a layer, which a pass over them alone may not call.
    :raises NoSecondDerivativeError: for a micro-batch, when the diagonal of parameters outside of layers takes a second
        derivative that the network lacks: the estimate without one takes all rows at once.
    """
    layers = _layer_pairs(forward_pass, metric, chosen, place)
    groups = _groups(layers, forward_pass.views, len(metric.outputs[0]), coupled) if layers else ()
    layered = {f"{name}{kind}" for group in groups for name in group.names for kind in ("weight", "bias")}
    others = {name: view for name, view in forward_pass.views.items() if name not in layered}
    return KroneckerFactors(groups, _diagonal(others, metric, whole=whole))


def factors_of_pairs(
    layers: Sequence[LayerPairs], views: Mapping[str, Tensor], count: int, *, coupled: bool
) -> KroneckerFactors:
    """Return the factors of a network that consists of these layers, from their pairs for ``count`` rows."""
    return KroneckerFactors(_groups(layers, views, count, coupled), {})


def _groups(
    layers: Sequence[LayerPairs], views: Mapping[str, Tensor], count: int, coupled: bool
) -> tuple[FactorGroup, ...]:
    inputs: dict[str, list[Tensor]] = {}
    derivatives: dict[str, list[Tensor]] = {}
    for layer in layers:
        inputs.setdefault(layer.name, []).append(layer.inputs)
        derivatives.setdefault(layer.name, []).append(layer.derivatives)
    # Layers that are called once, with equally many pairs, see the same rows and positions in the same order.
    by_count: dict[object, list[str]] = {}
    for name, calls in inputs.items():
        by_count.setdefault(len(calls[0]) if coupled and len(calls) == 1 else name, []).append(name)
    groups = []
    for names in by_count.values():
        columns, shapes = [], []
        for name in names:
            columns.append(_joined(inputs[name]))
            if f"{name}bias" in views:
                columns.append(columns[-1].new_ones(len(columns[-1]), 1))
            width = inputs[name][0].shape[1] + (f"{name}bias" in views)
            shapes.append((derivatives[name][0].shape[1], width))
        y = torch.cat(columns, dim=1)  # (pairs, inputs of all layers), a column of ones for each bias
        h = torch.cat([_joined(derivatives[name]) for name in names], dim=1)  # (pairs, outputs of all layers)
        # A row of a convolution has a pair for each position. Its block is the sum over positions of y y^T times the
        # mean over positions of h h^T (Grosse and Martens 2016, arXiv:1602.01407, section 3): hence count and len(h).
        omega, gamma = matmul(y.mT, y) / count, matmul(h.mT, h) / max(len(h), 1)
        groups.append(FactorGroup(tuple(names), tuple(shapes), omega, gamma, pairs_per_row=len(h) / count))
    return tuple(groups)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _layer_pairs(
    forward_pass: ForwardPass, metric: FisherMetric, chosen: Tensor | None, place: Place | None
) -> list[LayerPairs]:
    """Return the pairs of the layers that may move, with the derivatives for one draw of signs.

    They have the parameters' dtype, also where a layer computed in another one, as under autocast.
    """
    live = [
        (output, cotangent)
        for output, cotangent in zip(metric.outputs, metric.root(_random_signs(metric.outputs, place)), strict=True)
        if output.requires_grad
    ]
    if not live or not forward_pass.layer_calls:
        return []
    outputs, cotangents = zip(*live, strict=True)
    derivatives = layer_derivatives(outputs, cotangents, forward_pass.layer_calls)
    calls = zip(forward_pass.layer_calls, derivatives, strict=True)
    layers = [pairs for call, derivative in calls for pairs in call.pairs(derivative, chosen)]
    some = chosen is not None and len(chosen) < forward_pass.layer_calls[0].shape[0]
    if some and not bool(torch.stack([pairs.derivatives.any() for pairs in layers]).all()):
        raise FactorsDifferError("a layer has no effect on the chosen rows")
    dtype = forward_pass.theta.dtype
    return [pairs.to(dtype) for pairs in layers if f"{pairs.name}weight" in forward_pass.views]


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
