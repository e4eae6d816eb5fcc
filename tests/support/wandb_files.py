"""What Weights & Biases wrote on disk, as a run without a network leaves it."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

__all__ = ["history", "run_ids"]

_FILE_HEADER, _BLOCK = 7, 32768
_RECORD_HEADER = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all sessions, the oldest first, without what wandb adds."""
    rows = [record.history for record in _records(folder) if record.WhichOneof("record_type") == "history"]
    named = ({".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows)
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in named]


def run_ids(folder: Path) -> list[str]:
    """Return the id of the run in each session."""
    return [record.run.run_id for record in _records(folder) if record.WhichOneof("record_type") == "run"]


def _records(folder: Path) -> Iterator[Any]:
    """Yield the records of all sessions, each of which must have ended: the oldest session's first."""
    sessions = [_ended(path) for path in folder.rglob("*.wandb")]
    for session in sorted(sessions, key=_start):
        yield from session


def _ended(path: Path) -> list[Any]:
    """Return the records of a session; wandb writes the last ones in another process, after the session has ended."""
    deadline = time.monotonic() + 60.0
    while True:
        records = [wandb_internal_pb2.Record.FromString(content) for content in _contents(path.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.02)


def _start(session: list[Any]) -> int:
    return next(r.run.start_time.ToNanoseconds() for r in session if r.WhichOneof("record_type") == "run")


def _contents(file: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format, whose blocks cut long ones into pieces."""
    place, content = _FILE_HEADER, b""
    while place + _RECORD_HEADER.size <= len(file):
        if _BLOCK - place % _BLOCK < _RECORD_HEADER.size:  # the end of a block holds no header
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(file, place)
        place += _RECORD_HEADER.size + length
        content += file[place - length : place]
        if kind in (_WHOLE, _LAST):
            yield content
            content = b""
