"""Text and JSON files that are either wholly written or not touched."""

__all__ = ["atomic_write_text", "write_json"]

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trpo_ts.atomic_write import atomic_write


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` as UTF-8 so that a reader sees the old file or the new one, never a part of either.

    Missing parent folders are made.

    :return: the path written.
    """
    return atomic_write(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], mapping: Mapping[str, object]) -> Path:
    """Write a mapping as one JSON document, atomically.

    NumPy numbers and arrays are written as JSON numbers and lists.

    :param mapping: text keys; numbers, texts, booleans, None, and mappings and sequences of these.
    :return: the path written.
    :raises ValueError: if a number is NaN or infinite (JSON has neither); the message says where it is.
    :raises TypeError: if a key is not text or a value is nothing that JSON knows.
    """
    document = json.dumps(_jsonable(mapping, "mapping"), allow_nan=False, ensure_ascii=False, indent=2)
    return atomic_write_text(path, document + "\n")


def _jsonable(value: object, place: str) -> object:
    """Copy ``value`` in JSON's own types; ``place`` names it in an error."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, and JSON has finite numbers only")
        return value
    if isinstance(value, list | tuple):
        return [_jsonable(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}, and JSON has text keys only")
        return {key: _jsonable(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise TypeError(f"{place} is of type {type(value).__name__}, which JSON does not know")
