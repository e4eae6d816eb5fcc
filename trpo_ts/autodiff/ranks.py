r"""The rows of a rollout spread over processes, ranks: where a mean over rows becomes a mean over ranks.

The mathematics knows the two classes below and no process. In a single process :data:`ALONE` is the only rank, and each
reduction returns what it was given. :mod:`trpo_ts.distributed` has the ranks of ``torch.distributed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["ALONE", "Ranks", "Shard"]


class Ranks(Protocol):
    """Processes that make the same update. What a method returns is bitwise equal on all of them.

    All must call the same methods in the same order.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """The number of processes, >= 1."""

    @property
    def reductions(self) -> int:
        """How often the processes have met so far, in any of the methods below."""

    @property
    def layouts(self) -> dict[Any, Any]:
        """What all ranks have found alike before and may expect again, the same on all; empty at first."""

    def sum(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the sums of the ranks' tensors, of equal shapes on all: one reduction, whatever their number."""

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return the numbers of each rank, however many it has: one reduction, two where one has more than 126."""

    def first(self, tensor: Tensor) -> Tensor:
        """Return the tensor of rank 0, of equal shape on all: one reduction."""

    def gather_objects(self, value: Any) -> list[Any]:
        """Return what each rank has, of any size: three reductions."""

    def refuse(self, error: BaseException) -> None:
        """Make the other ranks raise where they next gather numbers; all can go on meeting."""

    def leave(self, error: BaseException) -> None:
        """Make the other ranks raise in their present or next reduction; this rank meets them no more."""


class _Alone:
    """The only rank."""

    rank, size, reductions = 0, 1, 0

    @property
    def layouts(self) -> dict[Any, Any]:
        return {}

    def sum(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        return [list(numbers)]

    def first(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather_objects(self, value: Any) -> list[Any]:
        return [value]

    def refuse(self, error: BaseException) -> None:
        pass

    def leave(self, error: BaseException) -> None:
        pass


ALONE: Ranks = _Alone()
"""A single process."""


@dataclass(frozen=True)
class Shard:
    """This rank's rows, as a part of the rows of all ranks, one rank after the other.

    :param count: how many there are, >= 0.
    :param start: how many the ranks before have.
    :param total: how many all have.
    :param ranks: the ranks.
    """

    count: int
    start: int
    total: int
    ranks: Ranks

    @classmethod
    def whole(cls, count: int) -> Shard:
        """Return all rows of a single process."""
        return cls(count, 0, count, ALONE)

    @classmethod
    def of_counts(cls, counts: Sequence[float], ranks: Ranks) -> Shard:
        """Return a rank's rows, given how many each has."""
        numbers = [int(count) for count in counts]
        return cls(numbers[ranks.rank], sum(numbers[: ranks.rank]), sum(numbers), ranks)

    @property
    def is_whole(self) -> bool:
        """Whether there is no other rank."""
        return self.ranks.size == 1

    def mean(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the means over all rows, from those over this rank's rows: one reduction."""
        if self.is_whole:
            return tensors
        return self.ranks.sum(*(tensor * (self.count / self.total) for tensor in tensors))

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all ranks of some numbers, in float64: one reduction."""
        return [sum(column) for column in zip(*self.ranks.gather(numbers), strict=True)]

    def own(self, indices: Tensor) -> Tensor:
        """Return which of some rows of all ranks are this rank's, as indices in its rows; the order stays."""
        if self.is_whole:
            return indices
        return indices[(indices >= self.start) & (indices < self.start + self.count)] - self.start
