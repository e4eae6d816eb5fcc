"""Parameters that change during a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from trpo_ts.validation.parameter_values import check_real

__all__ = ["LinearSchedule", "Schedule", "Schedules"]

Schedule: TypeAlias = Callable[[float], float]
"""A parameter's value by the progress of the training, from 0.0 before its first update towards 1.0 after its last."""


@dataclass(frozen=True, kw_only=True)
class LinearSchedule:
    r"""A value that moves linearly from ``start`` to ``end``, and stays there.

    .. math:: x(p) = x_0 + (x_1 - x_0) \min(1, p / p_1)

    >>> max_kl = LinearSchedule(start=0.02, end=0.01, until=0.5)
    >>> max_kl(0.0), max_kl(0.25), max_kl(0.75)
    (0.02, 0.015, 0.01)

    :param start: the value :math:`x_0` at the first update.
    :param end: the value :math:`x_1` that it moves to. The last update begins before progress 1: where ``until`` is 1,
        it never quite has this value.
    :param until: the progress :math:`p_1` in (0, 1] at which it is there.
    :raises ValueError: for values that are not finite, and for ``until`` outside its range.
    """

    start: float
    end: float
    until: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            check_real(name, getattr(self, name))
        check_real("until", self.until, 0.0, 1.0, low_open=True)

    def __call__(self, progress: float) -> float:
        """Return the value."""
        share = min(1.0, progress / self.until)
        return (1.0 - share) * self.start + share * self.end


class Schedules:
    """The parameters of an algorithm that have a schedule, with the range that each must stay in."""

    def __init__(self) -> None:
        self._scheduled: dict[str, tuple[Schedule, Callable[[str, Any], float]]] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._scheduled)

    def first(
        self,
        name: str,
        value: float | Schedule,
        low: float,
        high: float = math.inf,
        *,
        low_open: bool = False,
        high_open: bool = False,
    ) -> float:
        """Return a parameter's first value, and keep its schedule if it has one.

        :param name: of the parameter.
        :param value: the parameter's value, or its schedule.
        :param low: the least value.
        :param high: the largest.
        :param low_open: whether it must be above ``low``.
        :param high_open: whether it must be below ``high``.
        :raises ValueError: for a value outside.
        """

        def check(said: str, number: Any) -> float:
            return check_real(said, number, low, high, low_open=low_open, high_open=high_open)

        if not callable(value):
            return check(name, value)
        self._scheduled[name] = value, check
        return self.at(0.0)[name]

    def at(self, progress: float | None) -> dict[str, float]:
        """Return the values at a point of the training, by name.

        :param progress: in [0, 1]; None where nobody has said it.
        :raises ValueError: when there are schedules and no progress, and for a value outside its range.
        """
        if not self._scheduled:
            return {}
        if progress is None:
            raise ValueError(
                f"algorithm.progress must be set for the schedule of {', '.join(self._scheduled)}, got None; train by "
                "algorithm.run_training(params), or set it to (steps so far) / (steps planned) before each update()"
            )
        return {
            name: check(f"{name} (by its schedule, at progress {progress:g})", schedule(progress))
            for name, (schedule, check) in self._scheduled.items()
        }
