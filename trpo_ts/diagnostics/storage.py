"""A run's records in one file of JSON lines."""

__all__ = ["load_records", "record_line", "save_records"]

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trpo_ts.diagnostics.records import EvaluationRecord, PolicySnapshot, Record, RolloutRecord, UpdateRecord
from trpo_ts.diagnostics.text_files import atomic_write_text

_KINDS: dict[str, type[Record]] = {
    "update": UpdateRecord,
    "evaluation": EvaluationRecord,
    "rollout": RolloutRecord,
    "policy_snapshot": PolicySnapshot,
}
_DERIVED = ("return_mean",)
"""What follows from the other fields of a record."""


def save_records(path: str | os.PathLike[str], records: Iterable[Record]) -> Path:
    """Write records as JSON lines, one object per line with its ``kind``; replaces the file atomically.

    :return: the path written.
    """
    return atomic_write_text(path, "".join(map(record_line, records)))


def record_line(record: Record) -> str:
    """Return the line of a record in a file that :func:`load_records` reads, with its end.

    Lines of updates and tests also hold ``return_mean``, for other readers of the file.
    """
    kind = next(kind for kind, record_type in _KINDS.items() if type(record) is record_type)
    derived = {name: getattr(record, name) for name in _DERIVED if hasattr(record, name)}
    return json.dumps({"kind": kind, **asdict(record), **derived}, allow_nan=False) + "\n"


def load_records(path: str | os.PathLike[str], *, unfinished: bool = False) -> list[Record]:
    """Read what `save_records` wrote, in the same order.

    :param unfinished: whether a last line without its end is left out, as one that is being written, or whose writer
        was killed.
    :raises ValueError: if a line is not one whole record of a known kind; the message names file and line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is not UTF-8 text: {error}") from error
    text = text[: text.rfind("\n") + 1] if unfinished else text
    text = text.removesuffix("\n")
    lines = text.split("\n") if text else []
    return [_parse(line, f"{os.fspath(path)}, line {number}") for number, line in enumerate(lines, start=1)]


def _parse(line: str, place: str) -> Record:
    try:
        document = json.loads(line, object_pairs_hook=_object, parse_constant=_refuse_constant)
        if not isinstance(document, dict):
            raise ValueError("expected a JSON object")
        kind = document.pop("kind", None)
        if kind not in list(_KINDS):
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        known = {name: value for name, value in document.items() if name not in _DERIVED}
        return _KINDS[kind](**known)
    except (TypeError, ValueError, OverflowError) as error:
        # A TypeError names the field that is missing or too many; an integer may exceed every float.
        raise ValueError(f"{place}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a JSON object has the same key twice")
    return document


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
