"""The factors of all ranks' rows, from those of each rank."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trpo_ts.autodiff.ranks import Shard
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


def pooled(factors: KroneckerFactors | None, shard: Shard, like: Tensor) -> KroneckerFactors | None:
    """Return the factors over the chosen rows of all ranks; None where no rank has any.

    One reduction says whether all ranks found the same layers, a second one adds the factors up. Where they did not,
    as when a rank's sequences have one row each, two more agree on what all have in common.

    :param factors: those of this rank's rows; None where it has no row, or nothing to factor.
    :param shard: the chosen rows.
    :param like: a tensor of the factors' dtype and device.
    """
    if shard.is_whole:
        return factors
    layout = None if factors is None else _Layout.of(factors)
    code = zlib.crc32(repr(layout).encode())
    codes = shard.ranks.gather([code])
    if any(other != [code] for other in codes) and (agreed := _common(shard.ranks.gather_objects(layout))) is not None:
        layout = agreed
        factors = _laid_out(factors, agreed, like)
    if layout is None:
        return None
    assert factors is not None
    return _summed(factors, layout, shard)


def _summed(factors: KroneckerFactors, layout: _Layout, shard: Shard) -> KroneckerFactors:
    """Return the weighted means: inputs and diagonals by rows, derivatives by pairs."""
    share = shard.count / shard.total
    tensors = [
        *(group.input_factor * share for group in factors.groups),
        *(group.derivative_factor * (share * group.pairs_per_row) for group in factors.groups),
        *(factors.diagonal[name] * share for name, _ in layout.diagonal),
    ]
    pairs = tensors[0].new_tensor([share * group.pairs_per_row for group in factors.groups])
    *summed, pairs = shard.ranks.sum(*tensors, pairs)
    count = len(factors.groups)
    omegas, gammas, diagonals = summed[:count], summed[count : 2 * count], summed[2 * count :]
    groups = [
        replace(group, input_factor=omega, derivative_factor=gamma / max(per_row, 1e-30), pairs_per_row=per_row)
        for group, omega, gamma, per_row in zip(factors.groups, omegas, gammas, pairs.tolist(), strict=True)
    ]
    names = [name for name, _ in layout.diagonal]
    return KroneckerFactors(tuple(groups), dict(zip(names, diagonals, strict=True)))


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
