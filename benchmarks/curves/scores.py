"""Figures of learning curves: largest and last return, scores that tasks share, time to an equal return."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from curves.published import TRPO

__all__ = [
    "Runs",
    "aggregates",
    "by_side",
    "largest",
    "last",
    "normalised",
    "probabilities_of_improvement",
    "time_ratios",
]

Runs = dict[str, dict[str, list[dict[str, Any]]]]
"""Records of runs by side and task, by rising seed."""

_RESAMPLES = 2_000


def by_side(records: Iterable[dict[str, Any]]) -> Runs:
    """Return records by side and task."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: record["seed"]):
        runs[record["side"]][record["task"]].append(record)
    return {side: dict(tasks) for side, tasks in runs.items()}


def largest(run: Mapping[str, Any]) -> float:
    """Return the largest test return of a run."""
    return float(max(run["returns"]))


def last(run: Mapping[str, Any]) -> float:
    """Return the last test return of a run."""
    return float(run["returns"][-1])


def normalised(runs: Runs, figure: Callable[[Mapping[str, Any]], float]) -> dict[str, np.ndarray]:
    """Return scores by side, shape ``(seeds, tasks)``: 0 for an untrained policy, 1 for the best published TRPO.

    Only tasks that every side has count, and as many seeds as each side has of all of them.

    :param runs: the runs.
    :param figure: :func:`largest` or :func:`last`.
    """
    tasks = [task for task in TRPO if all(f"{task}-v4" in runs[side] for side in runs)]
    untrained = {
        task: float(np.mean([run["returns"][0] for side in runs for run in runs[side][f"{task}-v4"]])) for task in tasks
    }
    scores = {}
    for side, by_task in runs.items():
        seeds = min((len(by_task[f"{task}-v4"]) for task in tasks), default=0)
        scores[side] = np.array(
            [
                [
                    (figure(by_task[f"{task}-v4"][seed]) - untrained[task])
                    / (max(TRPO[task].values()) - untrained[task])
                    for task in tasks
                ]
                for seed in range(seeds)
            ]
        )
    return scores


def aggregates(scores: dict[str, np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Return by side the interquartile mean over runs of all tasks, and its stratified bootstrap interval at 95 %.

    Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, arXiv:2108.13264.
    """
    from rliable.metrics import aggregate_iqm

    return _with_intervals(scores, aggregate_iqm)


def probabilities_of_improvement(scores: dict[str, np.ndarray], side: str) -> dict[str, tuple[float, float, float]]:
    """Return by other side the probability that a run of ``side`` scores more on a task, and its interval at 95 %."""
    from rliable.metrics import probability_of_improvement

    pairs = {other: (scores[side], values) for other, values in scores.items() if other != side}
    return _with_intervals(pairs, probability_of_improvement)


def _with_intervals(scores: dict[str, Any], figure: Callable[..., float]) -> dict[str, tuple[float, float, float]]:
    """Return a figure of each side's scores and its bootstrap interval, the same in every call."""
    from rliable.library import get_interval_estimates

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the generator's type, which rliable passes on
        points, intervals = get_interval_estimates(
            scores, lambda *values: np.array([figure(*values)]), reps=_RESAMPLES, random_state=np.random.RandomState(0)
        )
    return {name: (float(points[name][0]), *map(float, np.ravel(intervals[name]))) for name in scores}


def time_ratios(runs: Runs, side: str, other: str) -> dict[str, float | None]:
    """Return by task how many times as fast ``side`` reaches the mean last return of ``other``; None if it does not.

    Times are those of one core. A run that does not reach the return counts with its whole time, and a task of which
    more than half of the runs do not is None.
    """
    ratios: dict[str, float | None] = {}
    for task in runs[side].keys() & runs[other].keys():
        goal = float(np.mean([last(run) for run in runs[other][task]]))
        times = [_seconds_to(run, goal) for run in runs[side][task]]
        reached = [time for time in times if time is not None]
        theirs = float(np.mean([run["cpu_seconds"] for run in runs[other][task]]))
        whole = [
            run["cpu_seconds"] if time is None else time for run, time in zip(runs[side][task], times, strict=True)
        ]
        ratios[task] = theirs / float(np.mean(whole)) if 2 * len(reached) > len(times) else None
    return ratios


def _seconds_to(run: Mapping[str, Any], goal: float) -> float | None:
    """Return the seconds that a run took until a test had the return; None if no test had it."""
    for steps, value in zip(run["steps"], run["returns"], strict=True):
        if value >= goal:
            return max(1.0, float(run["cpu_seconds"] * steps / run["steps"][-1]))
    return None
