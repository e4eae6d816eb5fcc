"""The ranks of ``torch.distributed``: the only file that knows it.

On one machine, messages of a gloo group go through :mod:`trpo_ts.distributed.shared_memory`, and each rank adds them up
in the order of the ranks. Otherwise sums are one ``all_reduce`` each, whose reduced chunks are computed at one rank and
sent to all. The results are bitwise equal either way; :class:`~trpo_ts.distributed.same_update.SameUpdate` watches it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from trpo_ts.distributed.rank_errors import RankError
from trpo_ts.distributed.shared_memory import SHARED_MEMORY_VARIABLE, SharedMemory

__all__ = ["ProcessGroupRanks", "ranks_of_group"]

_WIDTH = 128
"""The numbers in a gathered message: whether the rank refuses, how many follow, and the first of them."""

_LAST_WORDS = "trpo_ts/last_words/"


class ProcessGroupRanks:
    """The ranks of the default process group, as :class:`trpo_ts.autodiff.ranks.Ranks`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.reductions = 0
        self.layouts: dict[Any, Any] = {}
        self._left: BaseException | None = None
        self._backend = dist.get_backend()
        self._device = {"gloo": "cpu", "nccl": "cuda"}.get(self._backend)
        """Where the backend takes tensors from; None for one that takes them from anywhere."""

    def sum(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`Ranks.sum`."""
        flat = [tensor.detach().reshape(-1) for tensor in tensors]
        fused = self._taken(torch.cat(flat) if len(flat) > 1 else flat[0].clone())
        with self._met("sums"):
            if self._memory is None:
                dist.all_reduce(fused)
            else:
                first, *others = self._memory.exchange(fused)
                fused.copy_(first)
                for other in others:
                    fused += other
        parts = fused.split([len(part) for part in flat])
        return tuple(part.view(tensor.shape).to(tensor) for part, tensor in zip(parts, tensors, strict=True))

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """See :meth:`Ranks.gather`.

        :raises RankError: when a rank refuses.
        """
        rows = self._messages([0.0, float(len(numbers)), *numbers[: _WIDTH - 2]])
        if any(row[0] for row in rows):
            self._raise_refusal(self._exchanged(None))
        counts = [int(row[1]) for row in rows]
        found = [row[2 : 2 + count] for row, count in zip(rows, counts, strict=True)]
        if max(counts) > _WIDTH - 2:
            rest = self._messages(numbers[_WIDTH - 2 :], max(counts) - (_WIDTH - 2))
            found = [(row + more)[:count] for row, more, count in zip(found, rest, counts, strict=True)]
        return found

    def refuse(self, error: BaseException) -> None:
        """See :meth:`Ranks.refuse`."""
        self._messages([1.0, 0.0])
        self._exchanged(f"{type(error).__name__}: {error}")

    def leave(self, error: BaseException) -> None:
        """See :meth:`Ranks.leave`."""
        self._left = error
        with suppress(RuntimeError):  # the store may be gone already
            _store().set(f"{_LAST_WORDS}{self.rank}", f"{type(error).__name__}: {error}")
        if self._memory is not None:
            self._memory.leave()

    def first(self, tensor: Tensor) -> Tensor:
        """See :meth:`Ranks.first`."""
        sent = self._taken(tensor.detach().clone().contiguous())
        with self._met("what rank 0 sends"):
            dist.broadcast(sent, 0)
        return sent.to(tensor)

    def gather_objects(self, value: Any) -> list[Any]:
        """See :meth:`Ranks.gather_objects`.

        :raises RankError: when a rank refuses.
        """
        self.gather([])
        return self._exchanged(value)

    def _exchanged(self, value: Any) -> list[Any]:
        with self._met("messages"):
            self.reductions += 1  # the lengths, then the messages
            return _all_objects(value)

    def _messages(self, numbers: Sequence[float], width: int = _WIDTH) -> list[list[float]]:
        message = torch.zeros(width, dtype=torch.float64)
        message[: len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        with self._met("numbers"):
            if self._memory is not None:
                return [row.tolist() for row in self._memory.exchange(message)]
            message = message.to(self._device or "cpu")
            rows = [torch.empty_like(message) for _ in range(self.size)]
            dist.all_gather(rows, message)
        gathered: list[list[float]] = torch.stack(rows).tolist()
        return gathered

    @cached_property
    def _memory(self) -> SharedMemory | None:
        """What the ranks of one machine share, from their first message on."""
        if self._backend != "gloo" or not all(_all_objects(os.environ.get(SHARED_MEMORY_VARIABLE, "1") != "0")):
            return None
        group: Any = dist.group.WORLD
        options = getattr(group._get_backend(torch.device("cpu")), "options", None)
        timeout = getattr(options, "_timeout", dist.distributed_c10d.default_pg_timeout)
        return SharedMemory.of_ranks(self.rank, self.size, _all_objects, timeout.total_seconds())

    def _taken(self, tensor: Tensor) -> Tensor:
        return tensor if self._device is None or tensor.device.type == self._device else tensor.to(self._device)

    def _raise_refusal(self, messages: Sequence[str | None]) -> None:
        refusals = [f"rank {rank} raised {message}" for rank, message in enumerate(messages) if message is not None]
        raise RankError(f"{'; '.join(refusals)}; no rank was updated")

    @contextmanager
    def _met(self, what: str) -> Iterator[None]:
        if self._left is not None:
            raise RankError(f"rank {self.rank} left the others when it raised; start the job again") from self._left
        self.reductions += 1
        try:
            yield
        except RuntimeError as error:
            raise RankError(
                f"rank {self.rank} of {self.size} lost another one while they exchanged {what}: "
                f"{self._last_words() or _UNKNOWN} ({' '.join(str(error).split())[:300]})"
            ) from error

    def _last_words(self) -> str:
        """Return what other ranks raised before they left, as far as it is known."""
        found = []
        with suppress(RuntimeError):
            for rank in range(self.size):
                key = f"{_LAST_WORDS}{rank}"
                if rank != self.rank and _store().check([key]):
                    found.append(f"rank {rank} raised {_store().get(key).decode()}")
        return "; ".join(found)


_UNKNOWN = "it died, left or did not answer within the timeout of init_process_group; see its own output"


def _all_objects(value: Any) -> list[Any]:
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


_RANKS: WeakKeyDictionary[Any, ProcessGroupRanks] = WeakKeyDictionary()
"""By group; weakly, because a rank that has left is noticed by the others when its group is gone."""


def ranks_of_group() -> ProcessGroupRanks:
    """Return the ranks of the present default group; the same object at each call, with its count of reductions."""
    group = dist.group.WORLD
    if group not in _RANKS:
        _RANKS[group] = ProcessGroupRanks()
    return _RANKS[group]
