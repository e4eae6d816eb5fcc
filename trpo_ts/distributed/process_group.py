"""The ranks of ``torch.distributed``: the only file that knows it.

Sums are one ``all_reduce`` each: its reduced chunks are computed at one rank and sent to all, so that the results are
bitwise equal, which :class:`~trpo_ts.distributed.same_update.SameUpdate` watches over. Numbers are gathered, and added
up in the order of the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from trpo_ts.distributed.rank_errors import RankError

__all__ = ["ProcessGroupRanks", "ranks_of_group"]

_WIDTH = 18
"""The numbers in a gathered message: whether the rank refuses, how many follow, and 16 of them."""


class ProcessGroupRanks:
    """The ranks of the default process group, as :class:`trpo_ts.autodiff.ranks.Ranks`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.reductions = 0
        self._device = {"gloo": "cpu", "nccl": "cuda"}.get(dist.get_backend())
        """Where the backend takes tensors from; None for one that takes them from anywhere."""

    def sum(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`Ranks.sum`."""
        flat = [tensor.detach().reshape(-1) for tensor in tensors]
        fused = self._taken(torch.cat(flat) if len(flat) > 1 else flat[0].clone())
        with self._met("sums"):
            dist.all_reduce(fused)
        parts = fused.split([len(part) for part in flat])
        return tuple(part.view(tensor.shape).to(tensor) for part, tensor in zip(parts, tensors, strict=True))

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """See :meth:`Ranks.gather`.

        :raises RankError: when a rank refuses.
        """
        rows = self._messages([0.0, float(len(numbers)), *numbers])
        if any(row[0] for row in rows):
            self._raise_refusal(self._exchanged(None))
        return [row[2 : 2 + int(row[1])] for row in rows]

    def refuse(self, error: BaseException) -> None:
        """See :meth:`Ranks.refuse`."""
        self._messages([1.0, 0.0])
        self._exchanged(f"{type(error).__name__}: {error}")

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
        values: list[Any] = [None] * self.size
        self.reductions += 1
        with self._met("messages"):
            dist.all_gather_object(values, value)
        return values

    def _messages(self, numbers: Sequence[float]) -> list[list[float]]:
        device = self._device or "cpu"
        message = torch.zeros(_WIDTH, dtype=torch.float64, device=device)
        message[: len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        rows = [torch.empty_like(message) for _ in range(self.size)]
        with self._met("numbers"):
            dist.all_gather(rows, message)
        gathered: list[list[float]] = torch.stack(rows).tolist()
        return gathered

    def _taken(self, tensor: Tensor) -> Tensor:
        return tensor if self._device is None or tensor.device.type == self._device else tensor.to(self._device)

    def _raise_refusal(self, messages: Sequence[str | None]) -> None:
        refusals = [f"rank {rank} raised {message}" for rank, message in enumerate(messages) if message is not None]
        raise RankError(f"{'; '.join(refusals)}; no rank was updated")

    @contextmanager
    def _met(self, what: str) -> Iterator[None]:
        self.reductions += 1
        try:
            yield
        except RuntimeError as error:
            raise RankError(
                f"rank {self.rank} of {self.size} lost another one while they exchanged {what}: it raised, died, or "
                "did not answer within the timeout of init_process_group; see its own output. torch said: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error


_RANKS: WeakKeyDictionary[Any, ProcessGroupRanks] = WeakKeyDictionary()
"""By group; weakly, because a rank that has left is noticed by the others when its group is gone."""


def ranks_of_group() -> ProcessGroupRanks:
    """Return the ranks of the present default group; the same object at each call, with its count of reductions."""
    group = dist.group.WORLD
    if group not in _RANKS:
        _RANKS[group] = ProcessGroupRanks()
    return _RANKS[group]
