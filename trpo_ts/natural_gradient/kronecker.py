r"""The second moments from which a Kronecker-factored model of the Fisher matrix is made.

For the weights of layers :math:`l, m` the Fisher matrix is a mean over samples of
:math:`a_l a_m^\top \otimes g_l g_m^\top`, with the layers' inputs :math:`a` and the derivatives :math:`g` with
respect to their outputs. The derivatives are those of :math:`\xi^\top B^\top z` with a vector of random signs
:math:`\xi` per sample, :math:`B B^\top = M`, whose second moment is the Fisher matrix; one backward pass gives all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trpo_ts.natural_gradient.distributions import FisherMetric
from trpo_ts.natural_gradient.fisher import gauss_newton_products
from trpo_ts.natural_gradient.layers import LayerCall
from trpo_ts.natural_gradient.parameters import Trace

__all__ = ["LayerGroup", "Moments", "moments_of", "random_signs", "sum_of_moments"]


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose rows correspond, one to one, and the sums of their outer products.

    :param names: the layers.
    :param shapes: each layer's matrix ``[W | b]`` as (outputs, inputs), a bias counting as one more input.
    :param inputs: sum over rows of the outer product of all layers' inputs, side by side.
    :param derivatives: the same of all layers' output derivatives, per row of a sample.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    inputs: Tensor
    derivatives: Tensor


@dataclass(frozen=True)
class Moments:
    """Sums over samples; those of the parts of a batch add up to those of the batch.

    :param count: the number of samples.
    :param groups: the layers' outer products.
    :param diagonal: for each parameter outside of layers, a sum that estimates its diagonal.
    """

    count: int
    groups: tuple[LayerGroup, ...]
    diagonal: dict[str, Tensor]


def random_signs(shapes: Sequence[torch.Size], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Return tensors of random signs, always the same ones; the global generators are left alone."""
    generator = torch.Generator(device).manual_seed(0)
    return [
        torch.randint(0, 2, shape, generator=generator, device=device).to(dtype).mul_(2).sub_(1) for shape in shapes
    ]


def moments_of(trace: Trace, metric: FisherMetric, signs: Sequence[Tensor]) -> Moments:
    """Return the moments of a batch.

    :param trace: the network's evaluation, from which the metric's outputs were computed.
    :param metric: the distributions' parameters and Fisher matrices.
    :param signs: random signs in the shapes of the outputs.
    """
    calls = [call for call in trace.layers if f"{call.name}.weight" in trace.parts]
    groups = _groups(calls, trace, metric, signs) if calls else ()
    layered = {f"{name}.{kind}" for group in groups for name in group.names for kind in ("weight", "bias")}
    others = {name: part for name, part in trace.parts.items() if name not in layered}
    return Moments(metric.outputs[0].shape[0], groups, _diagonal(others, metric))


def sum_of_moments(parts: Sequence[Moments]) -> Moments:
    """Return the moments of a batch from those of its parts."""
    first = parts[0]
    return Moments(
        sum(part.count for part in parts),
        tuple(
            LayerGroup(
                group.names,
                group.shapes,
                sum((part.groups[i].inputs for part in parts[1:]), group.inputs),
                sum((part.groups[i].derivatives for part in parts[1:]), group.derivatives),
            )
            for i, group in enumerate(first.groups)
        ),
        {name: sum((part.diagonal[name] for part in parts[1:]), value) for name, value in first.diagonal.items()},
    )


def _groups(
    calls: Sequence[LayerCall], trace: Trace, metric: FisherMetric, signs: Sequence[Tensor]
) -> tuple[LayerGroup, ...]:
    inputs: dict[str, list[Tensor]] = {}
    derivatives: dict[str, list[Tensor]] = {}
    for call, derivative in zip(calls, _output_derivatives(calls, metric, signs), strict=True):
        rows = call.input_rows()
        if f"{call.name}.bias" in trace.parts:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        inputs.setdefault(call.name, []).append(rows)
        derivatives.setdefault(call.name, []).append(call.output_rows(derivative))
    # Layers that are called once, with equally many rows, see the same samples and positions in the same order.
    calls_of = Counter(call.name for call in calls)
    by_rows: dict[object, list[str]] = {}
    for name, parts in inputs.items():
        by_rows.setdefault(len(parts[0]) if calls_of[name] == 1 else name, []).append(name)
    groups = []
    for names in by_rows.values():
        a = torch.cat([torch.cat(inputs[name]) for name in names], dim=1)
        g = torch.cat([torch.cat(derivatives[name]) for name in names], dim=1)
        shapes = tuple((derivatives[name][0].shape[1], inputs[name][0].shape[1]) for name in names)
        rows_per_sample = len(a) / metric.outputs[0].shape[0]
        groups.append(LayerGroup(tuple(names), shapes, a.mT @ a, g.mT @ g / rows_per_sample))
    return tuple(groups)


def _output_derivatives(
    calls: Sequence[LayerCall], metric: FisherMetric, signs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    pairs = [
        (output, cotangent)
        for output, cotangent in zip(metric.outputs, metric.root(signs), strict=True)
        if output.requires_grad
    ]
    if not pairs:
        return tuple(torch.zeros_like(call.output) for call in calls)
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(
        outputs,
        [call.output for call in calls],
        cotangents,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )


def _diagonal(others: dict[str, Tensor], metric: FisherMetric) -> dict[str, Tensor]:
    """Estimate the diagonal of the parameters' own block by one product: exact where the block is diagonal.

    That is so for a free standard deviation, which is what mostly stands outside of layers.
    """
    if not others:
        return {}
    first = metric.outputs[0]
    probe = random_signs([part.shape for part in others.values()], first.device, first.dtype)
    product = gauss_newton_products(metric, list(others.values()))(probe)
    return {
        name: (sign * value).clamp_min(0.0).reshape(-1) * first.shape[0]
        for name, sign, value in zip(others, probe, product, strict=True)
    }
