"""Processes that are the ranks of one test after the other: they start once, and make a new process group for each."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from trpo_ts.distributed.shared_memory import SHARED_MEMORY_VARIABLE

SECONDS = 60


@contextmanager
def shared_memory(wanted: bool) -> Iterator[None]:
    """Let the ranks of this machine meet in memory that they share, or through sockets."""
    os.environ[SHARED_MEMORY_VARIABLE] = str(int(wanted))
    try:
        yield
    finally:
        del os.environ[SHARED_MEMORY_VARIABLE]


class Failure(Exception):
    """What a rank raised, by the name of its type, its text and its traceback."""

    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(kind, text, trace)
        self.kind, self.text, self.trace = kind, text, trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}\n{self.trace}"


def _serve(connection: Connection) -> None:
    torch.set_num_threads(1)
    while (task := connection.recv()) is not None:
        rank, size, store, seconds, function, arguments = task
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
        )
        try:
            result = function(*arguments)
        except Exception as error:
            result = Failure(type(error).__name__, str(error), traceback.format_exc())
        connection.send(result)
        dist.destroy_process_group()


class RankPool:
    """Up to so many ranks, on gloo, one thread each."""

    def __init__(self, most: int, method: str = "forkserver", preload: str = "rank_jobs") -> None:
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([preload, "torch._dynamo"])
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the server looks nowhere else
        self._folder = tempfile.TemporaryDirectory()
        self._groups = 0
        self._connections, self._processes = [], []
        for _ in range(most):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            self._connections.append(here)
            self._processes.append(process)

    def run(self, size: int, function: Callable[..., Any], *arguments: Any, seconds: float = SECONDS) -> list[Any]:
        """Call a function on each rank, and return what each returned or, as a Failure, raised.

        :param seconds: the timeout of their group.
        """
        self._groups += 1
        store = os.path.join(self._folder.name, str(self._groups))
        used = self._connections[:size]
        for rank, connection in enumerate(used):
            connection.send((rank, size, store, seconds, function, arguments))
        return [connection.recv() for connection in used]

    def results(self, size: int, function: Callable[..., Any], *arguments: Any, seconds: float = SECONDS) -> list[Any]:
        """Return what each rank returned.

        :raises Failure: when one raised.
        """
        results = self.run(size, function, *arguments, seconds=seconds)
        for result in results:
            if isinstance(result, Failure):
                raise result
        return results

    def close(self) -> None:
        """End the processes."""
        for connection, process in zip(self._connections, self._processes, strict=True):
            connection.send(None)
            process.join(5)
        self._folder.cleanup()
