"""Curves of few points: many updates merged into one point, several runs on common steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_ts.diagnostics.records import UpdateRecord
from trpo_ts.reports.quantities import Series
from trpo_ts.reports.recorded_run import RecordedRun

__all__ = [
    "MOST_POINTS",
    "Curve",
    "bound_curve",
    "common_steps",
    "evaluation_curve",
    "merged",
    "return_curve",
    "series_curve",
]

MOST_POINTS = 500
"""Points of a curve; a report of any length stays small, and a screen shows no more."""


@dataclass(frozen=True)
class Curve:
    """Values over environment steps."""

    steps: NDArray[np.float64]
    """Environment steps, ascending, shape ``(P,)``."""
    values: NDArray[np.float64]
    """Values, shape ``(P,)``; NaN for a gap."""

    def __bool__(self) -> bool:
        """Return whether there is a value."""
        return bool(np.isfinite(self.values).any())


def series_curve(run: RecordedRun, series: Series) -> Curve:
    """Return a series of a run's updates."""
    values = [np.nan if value is None else value for value in series.values(run.updates)]
    return merged([update.env_steps for update in run.updates], values, series.merge)


def bound_curve(run: RecordedRun) -> Curve:
    """Return the bound on the KL divergence of a run's updates: two points where it is the same in all."""
    if run.max_kl is not None:
        return Curve(np.array([0.0, run.env_steps]), np.full(2, run.max_kl))
    bounds = [np.nan if bound is None else bound for bound in run.kl_bounds]
    return merged([update.env_steps for update in run.updates], bounds, np.max)


def return_curve(run: RecordedRun, value: Callable[[UpdateRecord], float | None]) -> Curve:
    """Return what ``value`` says of the returns of each update in which episodes ended; the others leave no gap."""
    ended = [update for update in run.updates if update.episode_returns]
    return merged([update.env_steps for update in ended], [value(update) for update in ended], np.mean)


def evaluation_curve(run: RecordedRun) -> Curve:
    """Return the mean returns of a run's tests."""
    return merged([test.env_steps for test in run.tests], [test.return_mean for test in run.tests], np.mean)


def merged(steps: Sequence[int], values: Sequence[Any], merge: Callable[..., Any]) -> Curve:
    """Return a curve of at most :data:`MOST_POINTS` points, each of as many neighbours.

    :param steps: environment steps; a point is at the last of its neighbours.
    :param values: of each; NaN for a gap, which is left out of a point that has others.
    :param merge: makes one value of several, such as ``np.mean``.
    """
    x, y = np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)
    size = -(-len(x) // MOST_POINTS)
    if size <= 1:
        return Curve(x, y)
    parts = [y[start : start + size] for start in range(0, len(y), size)]
    present = [part[np.isfinite(part)] for part in parts]
    ends = [min(start + size, len(x)) - 1 for start in range(0, len(x), size)]
    return Curve(x[ends], np.array([merge(part) if len(part) else np.nan for part in present]))


def common_steps(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps that all curves cover, and the values of each there, linear between its points.

    :param curves: S curves; a gap of one is bridged.
    :return: steps, shape ``(P,)``, and values, shape ``(S, P)``; P is 0 where the curves do not overlap.
    """
    finite = [np.isfinite(curve.values) for curve in curves]
    known = [(curve.steps[has], curve.values[has]) for curve, has in zip(curves, finite, strict=True) if has.any()]
    first, last = max(x[0] for x, _ in known), min(x[-1] for x, _ in known)
    steps = np.unique(np.concatenate([x for x, _ in known]))
    steps = steps[(steps >= first) & (steps <= last)]
    steps = steps[:: -(-len(steps) // MOST_POINTS) or 1]
    return steps, np.array([np.interp(steps, x, y) for x, y in known])
