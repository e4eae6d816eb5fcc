"""Checks that turn what a caller or a file gives into the plain numbers that records hold."""

__all__ = ["as_count", "as_matrix", "as_names", "as_number", "as_numbers"]

import math
from numbers import Integral, Real

import numpy as np


def as_count(value: object, name: str, *, minimum: int = 0) -> int:
    """Return an integer of at least ``minimum``.

    :raises ValueError: if it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {_shown(value)}")
    return int(value)


def as_number(value: object, name: str) -> float:
    """Return a finite float.

    :raises ValueError: if it is not a number, or NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number, got {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {_shown(value)}")
    return number


def as_numbers(value: object, name: str) -> tuple[float, ...]:
    """Return a sequence or a one-dimensional array of finite numbers, shape ``(N,)``, as a tuple.

    :raises ValueError: if it is no such sequence.
    """
    return tuple(as_number(item, f"{name}[{index}]") for index, item in enumerate(_items(value, name)))


def as_matrix(value: object, name: str) -> tuple[tuple[float, ...], ...]:
    """Return nested sequences or a two-dimensional array of finite numbers, shape ``(N, D)``, as tuples.

    :raises ValueError: if it is no such thing, or its rows differ in length.
    """
    rows = tuple(as_numbers(row, f"{name}[{index}]") for index, row in enumerate(_items(value, name)))
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{name} must have rows of one length, got {sorted({len(row) for row in rows})}")
    return rows


def as_names(value: object, name: str, *, count: int, default: str) -> tuple[str, ...]:
    """Return ``count`` names; an empty sequence stands for ``default[0]``, ``default[1]``, and so on.

    :raises ValueError: if there are neither none nor ``count``, or one is not text.
    """
    names = tuple(_items(value, name)) or tuple(f"{default}[{index}]" for index in range(count))
    if len(names) != count or not all(isinstance(item, str) for item in names):
        raise ValueError(f"{name} must be {count} texts or none, got {_shown(value)}")
    return tuple(str(item) for item in names)


def _items(value: object, name: str) -> list[object] | tuple[object, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list, a tuple or an array, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """Return what an error says of a value, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
