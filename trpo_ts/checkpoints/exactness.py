"""Which values come back from a checkpoint exactly as they were, alone and together."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch

__all__ = ["ExactValues", "identities"]


def identities(value: Any) -> Iterator[int]:
    """Yield what tells the changeable parts of a value from all others: of an array, where its owner's memory is."""
    if isinstance(value, np.ndarray):
        owner = value
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        yield owner.ctypes.data if owner.nbytes else id(owner)
        if value.dtype == object:
            for item in value.flat:
                yield from identities(item)
    elif isinstance(value, torch.Tensor):
        plain = value.layout is torch.strided and value.device.type == "cpu"
        yield (value.untyped_storage().data_ptr() if plain else 0) or id(value)
    elif isinstance(value, np.random.Generator):
        yield from (id(value), id(value.bit_generator), id(value.bit_generator.seed_seq))
    elif isinstance(value, dict | list | tuple | deque):
        if not isinstance(value, tuple):  # what cannot change may be in two places
            yield id(value)
        for item in value.values() if isinstance(value, dict) else value:
            yield from identities(item)


class ExactValues:
    """Values that a checkpoint can hold, none of which is part of another, or of something beyond them.

    What two values share, both of them see change. After loading they would not: each is made on its own.
    """

    def __init__(self) -> None:
        self._containers: dict[int, str] = {}
        self._memory: list[tuple[int, int, str]] = []

    def add(self, value: Any, place: str) -> None:
        """Take a value in.

        :param place: names it in errors.
        :raises ValueError: for a value, or a part of it, that would not come back as it is.
        """
        kind = type(value)
        if value is None or kind in (bool, int, float, str) or isinstance(value, np.generic):
            return
        if kind is np.ndarray:
            self._add_array(value, place)
        elif kind is torch.Tensor:
            self._add_tensor(value, place)
        elif isinstance(value, np.random.Generator):
            self._add_generator(value, place)
        elif kind in (dict, OrderedDict, Counter, list, tuple, deque):
            self._add_container(value, place)
        else:
            raise ValueError(f"{place} is of type {kind.__name__}")

    def check_disjoint(self) -> None:
        """Check that no two of the arrays and tensors share memory.

        :raises ValueError: naming two that do.
        """
        for (_, end, first), (start, _, second) in pairwise(sorted(self._memory)):
            if start < end:
                raise ValueError(f"{first} and {second} share memory")

    def _add_container(self, value: Any, place: str) -> None:
        if type(value) is not tuple:
            self._once(value, place)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            self.add(item, f"{place}[{key!r}]")

    def _add_array(self, value: np.ndarray, place: str) -> None:
        owner = value
        while type(owner.base) is np.ndarray:
            owner = owner.base
        if owner.base is not None:  # a simulator may write to it
            raise ValueError(f"{place} is a view of memory that is not NumPy's")
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            raise ValueError(f"{place} is a view with gaps")
        if value.dtype == object:
            self._once(value, place)
            for i, item in enumerate(value.flat):
                self.add(item, f"{place}.flat[{i}]")
        self._occupies(value.ctypes.data, value.nbytes, place)

    def _add_tensor(self, value: torch.Tensor, place: str) -> None:
        plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.requires_grad or value.is_conj() or value.is_neg():
            raise ValueError(f"{place} is a tensor of another device or layout, or with a gradient")
        if value.untyped_storage().nbytes() != value.nbytes or not value.is_contiguous():
            raise ValueError(f"{place} is a view of a part of a tensor")
        self._occupies(value.data_ptr(), value.nbytes, place)

    def _add_generator(self, value: np.random.Generator, place: str) -> None:
        self._once(value, place)
        self._once(value.bit_generator, place)
        seeds = value.bit_generator.seed_seq
        if type(seeds) is not np.random.SeedSequence:
            raise ValueError(f"{place} is a generator without seeds for those that it spawns")
        self._once(seeds, place)

    def _once(self, value: object, place: str) -> None:
        if other := self._containers.get(id(value)):
            raise ValueError(f"{other} and {place} are one object")
        self._containers[id(value)] = place

    def _occupies(self, start: int, size: int, place: str) -> None:
        if size:
            self._memory.append((start, start + size, place))
