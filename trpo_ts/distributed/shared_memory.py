"""Messages between the ranks of one machine through memory that they share.

At these sizes a reduction is nothing but latency. A message through sockets wakes several threads, each of which takes
as long as a hundred such messages; here a rank looks until the others have written.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["SHARED_MEMORY_VARIABLE", "SharedMemory"]

SHARED_MEMORY_VARIABLE = "TRPO_TS_SHARED_MEMORY"
"""With 0, ranks of one machine meet through sockets too."""

_SLOT = 1 << 22
"""Bytes of a slot; longer messages are sent in parts. Memory is taken up only as far as it is written to."""

_HEADER = 1 << 16
"""Bytes before the first slot: four numbers for each rank."""
_LOOKS = 2000
"""How often a rank looks before it begins to sleep between two looks, about a millisecond."""

_SLEEP, _CHECK = 5e-5, 0.1
"""Seconds between two looks then, and between two checks that the others live."""


class SharedMemory:
    """A slot for each rank, in two sets that are used in turn: nobody writes into what another one still reads.

    A rank writes its message, then the number of its turn; the order in which others see this is x86's. Each rank holds
    a lock on a byte of its own, which the system opens when it dies.

    :param descriptor: of the file that all have open.
    :param rank: the number of this rank.
    :param size: the number of ranks.
    :param timeout: seconds after which a rank that does not answer is given up.
    """

    def __init__(self, descriptor: int, rank: int, size: int, timeout: float) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, rank)
        self._descriptor, self._rank, self._size, self._timeout = descriptor, rank, size, timeout
        self._memory = mmap.mmap(descriptor, _bytes(size))
        self._turns, self._has_left, *self._lengths = np.frombuffer(self._memory, np.int64, 4 * size).reshape(4, size)
        self._turn = 0
        self.leave = weakref.finalize(self, _leave, self._has_left, rank, descriptor, os.getpid())
        """Meet the others no more; also called when the group of the ranks is gone."""

    @classmethod
    def of_ranks(cls, rank: int, size: int, gather: Callable[[Any], list[Any]], timeout: float) -> SharedMemory | None:
        """Return the memory of all ranks; None where they are not on one machine of this kind, or do not want it.

        :param gather: returns what each rank has; all call it twice.
        """
        name, own = uuid.uuid4().bytes, None
        if rank == 0 and _is_possible():
            own = os.memfd_create("trpo_ts")
            os.truncate(own, _bytes(size))
            os.pwrite(own, name, _HEADER)
        place = gather((os.getpid(), own, name))[0]
        descriptor = own if rank == 0 else _opened(*place)
        memory = None if descriptor is None else cls(descriptor, rank, size, timeout)
        return memory if all(gather(memory is not None)) else None

    def exchange(self, message: Tensor) -> list[Tensor]:
        """Return the messages of all ranks, views that are valid until the next exchange.

        :param message: contiguous, on the CPU, of the same shape ``(n,)`` and dtype on all ranks.
        :raises RuntimeError: when a rank is lost, or sends a message of another length.
        """
        most = _SLOT // message.element_size()
        if len(message) > most:
            parts = [[part.clone() for part in self.exchange(chunk)] for chunk in message.split(most)]
            return [torch.cat(of_rank) for of_rank in zip(*parts, strict=True)]
        self._turn += 1
        self._slot(self._rank, message)[:] = message
        lengths = self._lengths[self._turn % 2]
        lengths[self._rank] = len(message)
        self._turns[self._rank] = self._turn
        self._wait()
        if (lengths != len(message)).any():
            raise RuntimeError(f"the ranks sent {lengths.tolist()} numbers and should send equally many")
        return [self._slot(rank, message) for rank in range(self._size)]

    def _slot(self, rank: int, like: Tensor) -> Tensor:
        offset = _HEADER + ((self._turn % 2) * self._size + rank) * _SLOT
        return torch.frombuffer(self._memory, dtype=like.dtype, count=len(like), offset=offset)

    def _wait(self) -> None:
        looks, began = 0, time.monotonic()
        check = began + _CHECK
        while (self._turns < self._turn).any():
            looks += 1
            if looks < _LOOKS:
                os.sched_yield()
                continue
            time.sleep(_SLEEP)
            if time.monotonic() >= check:
                self._check_others(time.monotonic() - began)
                check = time.monotonic() + _CHECK

    def _check_others(self, seconds: float) -> None:
        late = [rank for rank in range(self._size) if self._turns[rank] < self._turn]
        for rank in late:
            if self._has_left[rank] or self._is_dead(rank):
                raise RuntimeError(f"rank {rank} is gone")
        if seconds > self._timeout:
            raise RuntimeError(f"rank {', '.join(map(str, late))} did not answer for {seconds:.0f} s")

    def _is_dead(self, rank: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        except OSError:
            return False
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, rank)
        return True


def _bytes(size: int) -> int:
    return _HEADER + 2 * size * _SLOT


def _is_possible() -> bool:
    return hasattr(os, "memfd_create") and platform.machine() == "x86_64"


def _opened(process: int, descriptor: int | None, name: bytes) -> int | None:
    """Open what a process has open; None where it is not on this machine."""
    if descriptor is None:
        return None
    try:
        opened = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    if os.pread(opened, len(name), _HEADER) == name:
        return opened
    os.close(opened)
    return None


def _leave(has_left: np.ndarray, rank: int, descriptor: int, process: int) -> None:
    if os.getpid() != process:  # a forked one, such as an environment's, ends for itself
        return
    has_left[rank] = 1
    os.close(descriptor)
