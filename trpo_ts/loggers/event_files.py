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
_SCOPES = ("training", "test", "update", "info", "save")
"""Where the tags of the trainer's curves begin; others' curves may count something else."""
_CHECKSUM = 4
"""Bytes of the checksum that follows the length, and of the one that follows the content."""


def cut_event_files(folder: str | os.PathLike[str], env_step: int) -> None:
    """Cut each of a run's event files at the first number of the trainer's that is later than this.

    A file is written in the order of time, so what follows belongs to the same lost stretch. TensorBoard has a mark of
    its own for restarts (``purge_step``), which hides what others wrote too.

    :param folder: where the files are.
    :param env_step: environment steps collected.
    """
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        start = _first_later(path, env_step)
        if start is not None:
            os.truncate(path, start)


def _first_later(path: Path, env_step: int) -> int | None:
    """Return where the record of the first event is that is later than all that is left."""
    for start, event in _events(path):
        if event.step > env_step and any(value.tag.partition("/")[0] in _SCOPES for value in event.summary.value):
            return start
    return None


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
