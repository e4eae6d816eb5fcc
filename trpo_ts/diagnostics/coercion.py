"""Checks that turn sequences and arrays, from a caller or a file, into the tuples that records hold."""

__all__ = ["as_matrix", "as_names", "as_numbers"]

import numpy as np

from trpo_ts.validation.parameter_values import check_real


def as_numbers(value: object, name: str) -> tuple[float, ...]:
    """Return a sequence or a one-dimensional array of finite numbers, shape ``(N,)``, as a tuple.

    :raises ValueError: if it is no such sequence.
    """
    return tuple(check_real(f"{name}[{index}]", item) for index, item in enumerate(_items(value, name)))


def as_matrix(value: object, name: str) -> tuple[tuple[float, ...], ...]:
    """Return nested sequences or a two-dimensional array of finite numbers, shape ``(N, D)``, as tuples.

    :raises ValueError: if it is no such thing, or its rows differ in length.
    """
    rows = tuple(as_numbers(row, f"{name}[{index}]") for index, row in enumerate(_items(value, name)))
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{name} must have rows of one length, got {sorted({len(row) for row in rows})}")
    return rows


def as_names(value: object, name: str, *, count: int, default: str) -> tuple[str, ...]:
    """Return ``count`` names; an empty sequence means ``default[0]``, ``default[1]``, and so on.

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
