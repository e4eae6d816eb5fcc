"""TensorBoard's event files, cut where a run resumes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

__all__ = ["cut_event_files"]

_LENGTH = struct.Struct("<Q")
_CHECKSUM = 4
"""Bytes of the checksum that follows the length, and of the one that follows the content."""


def cut_event_files(folder: str | os.PathLike[str], *, epoch: int, env_step: int, update_step: int) -> None:
    """Cut each of a run's event files at the first number that Tianshou's trainer logged later than this.

    A file is written in the order of time, so what follows belongs to the same lost stretch. TensorBoard has a mark of
    its own for restarts (``purge_step``), which takes one step for all curves: those over updates and those over
    environment steps would need two.

    :param folder: where the files are.
    :param epoch: epochs completed.
    :param env_step: environment steps collected.
    :param update_step: updates done.
    """
    last = {"epoch": epoch, "env_step": env_step, "update_step": update_step}
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        start = _first_later(path, last)
        if start is not None:
            os.truncate(path, start)


def _first_later(path: Path, last: dict[str, int]) -> int | None:
    """Return where the record of the first event is that is later than all that is left."""
    for start, event in _events(path):
        if any(event.step > last[unit] for value in event.summary.value for unit in _units(value.tag)):
            return start
    return None


def _units(tag: str) -> Iterator[str]:
    """Yield the unit of the steps of one of Tianshou's curves; curves of others have none."""
    scope, _, name = tag.partition("/")
    if scope in ("training", "test"):
        yield "env_step"
    elif scope == "update":
        yield "update_step"
    elif scope == "info":
        yield "epoch"
    elif scope == "save":
        last = name.rpartition("/")[2]
        yield {"gradient_step": "update_step", "env_step": "env_step"}.get(last, "epoch")


def _events(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield events with the places where their records begin, up to the end or to a record that is damaged."""
    with open(path, "rb") as file:
        while True:
            start = file.tell()
            head = file.read(_LENGTH.size + _CHECKSUM)
            if len(head) < _LENGTH.size + _CHECKSUM:
                return
            (length,) = _LENGTH.unpack_from(head)
            content = file.read(length) if length < 2**31 else b""
            if len(content) < length or len(file.read(_CHECKSUM)) < _CHECKSUM:
                return
            try:
                yield start, Event.FromString(content)
            except DecodeError:
                return
