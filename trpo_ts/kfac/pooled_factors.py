"""The factors of all ranks' rows, from those of each rank."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trpo_ts.autodiff.ranks import Shard
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.kfac.factors import FactorGroup, KroneckerFactors

__all__ = ["pooled"]

Shapes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Layout:
    """Which layers are factored together, and the sizes of the diagonals of the other parameters, by name."""

    groups: tuple[tuple[tuple[str, ...], Shapes], ...]
    diagonal: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, factors: KroneckerFactors) -> _Layout:
        return cls(
            tuple((group.names, group.shapes) for group in factors.groups),
            tuple((name, len(entries)) for name, entries in factors.diagonal.items()),
        )


def pooled(
    factors: KroneckerFactors | None, row_function: RowFunction, shard: Shard, like: Tensor
) -> KroneckerFactors | None:
    """Return the factors over the chosen rows of all ranks; None where no rank has any.

    The first time a reduction says whether all ranks found the same layers, and a second one adds the factors up. Later
    ones take for granted that they found them again, and a number in the same message says whether they did. Where
    ranks differ, as when the sequences of one have one row each, two more agree on what all have in common.

    :param factors: those of this rank's rows; None where it has no row, or nothing to factor.
    :param row_function: the network.
    :param shard: the chosen rows.
    :param like: a tensor of the factors' dtype and device.
    """
    if shard.is_whole:
        return factors
    ranks, network = shard.ranks, tuple(row_function.parameters.slices)
    layout = None if factors is None else _Layout.of(factors)
    expected = ranks.layouts.pop(network, None)
    if expected is not None:
        found = layout == expected
        own = factors if found and factors is not None else _laid_out(None, expected, like)
        summed, others = _summed(own, shard, 0.0 if found else 1.0)
        if others == 0.0:
            ranks.layouts[network] = expected
            return summed
    code = zlib.crc32(repr(layout).encode())
    if any(other != [code] for other in ranks.gather([code])):
        agreed = _common(ranks.gather_objects(layout))
        if agreed is not None:
            return _summed(_laid_out(factors, agreed, like), shard)[0]
    if layout is None or factors is None:
        return None
    ranks.layouts[network] = layout
    return _summed(factors, shard)[0]


def _summed(factors: KroneckerFactors, shard: Shard, number: float = 0.0) -> tuple[KroneckerFactors, float]:
    """Return the weighted means, inputs and diagonals by rows, derivatives by pairs; and the sum of a number."""
    share, count = shard.count / shard.total, len(factors.groups)
    tensors = [
        *(group.input_factor * share for group in factors.groups),
        *(group.derivative_factor * (share * group.pairs_per_row) for group in factors.groups),
        *(entries * share for entries in factors.diagonal.values()),
    ]
    numbers = tensors[0].new_tensor([number, *(share * group.pairs_per_row for group in factors.groups)])
    numbers, *summed = shard.ranks.sum(numbers, *tensors)
    of_all, *pairs = numbers.tolist()
    groups = [
        replace(group, input_factor=omega, derivative_factor=gamma / max(per_row, 1e-30), pairs_per_row=per_row)
        for group, omega, gamma, per_row in zip(
            factors.groups, summed[:count], summed[count : 2 * count], pairs, strict=True
        )
    ]
    return KroneckerFactors(tuple(groups), dict(zip(factors.diagonal, summed[2 * count :], strict=True))), of_all


def _common(layouts: Sequence[_Layout | None]) -> _Layout | None:
    """Return the layout with the layers of any rank, together where they are so on each rank that has one of them."""
    known = [layout for layout in layouts if layout is not None]
    if not known:
        return None
    shapes: dict[str, tuple[int, int]] = {}
    places: dict[str, list[int | None]] = {}
    for number, layout in enumerate(known):
        for index, (names, sizes) in enumerate(layout.groups):
            for name, shape in zip(names, sizes, strict=True):
                shapes.setdefault(name, shape)
                places.setdefault(name, [None] * len(known))[number] = index
    together: dict[tuple[int | None, ...], list[str]] = {}
    for name, found in places.items():
        together.setdefault(tuple(found), []).append(name)
    groups = tuple((tuple(names), tuple(shapes[name] for name in names)) for names in together.values())
    diagonal = {
        name: size
        for layout in known
        for name, size in layout.diagonal
        if name.removesuffix("weight").removesuffix("bias") not in shapes
    }
    return _Layout(groups, tuple(diagonal.items()))


def _laid_out(factors: KroneckerFactors | None, layout: _Layout, like: Tensor) -> KroneckerFactors:
    """Return the factors in another layout, with zeros for what they lack."""
    groups = tuple(_regrouped(factors, names, shapes, like) for names, shapes in layout.groups)
    diagonal = {
        name: like.new_zeros(size) if factors is None or name not in factors.diagonal else factors.diagonal[name]
        for name, size in layout.diagonal
    }
    return KroneckerFactors(groups, diagonal)


def _regrouped(factors: KroneckerFactors | None, names: tuple[str, ...], shapes: Shapes, like: Tensor) -> FactorGroup:
    """Return the blocks of some layers that are together in the factors; zeros where these do not have them."""
    for group in () if factors is None else factors.groups:
        if names[0] in group.names:
            places = [group.names.index(name) for name in names]
            heights, widths = ([shape[i] for shape in group.shapes] for i in (0, 1))
            inputs = _entries(places, widths, like.device)
            derivatives = _entries(places, heights, like.device)
            return FactorGroup(
                names,
                shapes,
                group.input_factor[inputs][:, inputs],
                group.derivative_factor[derivatives][:, derivatives],
                group.pairs_per_row,
            )
    height, width = (sum(shape[i] for shape in shapes) for i in (0, 1))
    return FactorGroup(names, shapes, like.new_zeros(width, width), like.new_zeros(height, height), 0.0)


def _entries(places: Sequence[int], sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return the indices of some parts of a vector whose parts have these sizes."""
    starts = [sum(sizes[:place]) for place in places]
    parts = [torch.arange(start, start + sizes[place]) for start, place in zip(starts, places, strict=True)]
    return torch.cat(parts).to(device)
