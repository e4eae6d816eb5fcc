"""Checks of constructor values: each error names the parameter, its range, the value and thereby the fix."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["check_bool", "check_choice", "check_instance", "check_integer", "check_real"]


def check_real(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return ``value`` as a float within the interval; ends are included unless said open, infinity never is.

    :raises ValueError: when it is no real number, not finite, or outside.
    """
    number = _as_float(value)
    inside = (
        math.isfinite(number)
        and (number > low if low_open else number >= low)
        and (number < high if high_open else number <= high)
    )
    if not inside:
        raise ValueError(f"{name} must be a number {_interval(low, high, low_open, high_open)}, got {value!r}")
    return number


def _as_float(value: Any) -> float:
    """Return a real number as a float, not a number for everything else; what is checked is what is used."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def check_integer(name: str, value: Any, low: int) -> int:
    """Return ``value`` as an int of at least ``low``.

    :raises ValueError: when it is no integer, or smaller.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")
    return int(value)


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool; 0 and 1 are taken for what they mean, as command lines give them.

    :raises ValueError: for anything else.
    """
    if not isinstance(value, numbers.Integral | np.bool_) or value not in (0, 1):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that ``value`` is one of the choices.

    :raises ValueError: otherwise.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_instance(name: str, value: Any, kind: type, fix: str) -> None:
    """Check that ``value`` is an instance of ``kind``.

    :raises ValueError: otherwise, ending on ``fix``.
    """
    if isinstance(value, type) or not isinstance(value, kind):  # a class may satisfy a protocol too
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise ValueError(f"{name} must be a {kind.__name__}, got {got}; {fix}")


def _interval(low: float, high: float, low_open: bool, high_open: bool) -> str:
    if math.isinf(high):
        return f"{'>' if low_open else '>='} {low:g}"
    return f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
