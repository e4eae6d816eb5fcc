"""Records of a run as a few arrays, which a checkpoint holds in little room, and back."""

__all__ = ["columns_of", "evaluations_in", "updates_in"]

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trpo_ts.diagnostics.records import EvaluationRecord, UpdateRecord


def columns_of(records: Sequence[UpdateRecord] | Sequence[EvaluationRecord]) -> dict[str, Any]:
    """Return the fields of R records as columns of length R.

    The returns of all episodes are in one array, with the number of episodes of each record beside it. Of updates
    there are also ``iteration``, and ``statistics`` by name, in which NaN stands for None.
    """
    columns: dict[str, Any] = {
        "env_steps": np.array([record.env_steps for record in records], dtype=np.int64),
        "episodes": np.array([len(record.episode_returns) for record in records], dtype=np.int64),
        "episode_returns": np.array([r for record in records for r in record.episode_returns], dtype=np.float64),
    }
    updates = [record for record in records if isinstance(record, UpdateRecord)]
    if updates:
        columns["iteration"] = np.array([record.iteration for record in updates], dtype=np.int64)
        columns["statistics"] = {
            name: np.array([getattr(record, name) for record in updates], dtype=np.float64)
            for name in UpdateRecord.statistics()
        }
    return columns


def updates_in(columns: dict[str, Any]) -> list[UpdateRecord]:
    """Return the records of updates whose :func:`columns_of` are given.

    :raises ValueError: for columns of several lengths, and for values that are none of a record's.
    """
    rows = _rows(columns)
    if not rows:
        return []
    names = [name for name in UpdateRecord.statistics() if name in columns["statistics"]]
    statistics = (columns["statistics"][name].tolist() for name in names)
    return [
        UpdateRecord(iteration, steps, returns, **_present(names, values))
        for iteration, (steps, returns), *values in zip(columns["iteration"].tolist(), rows, *statistics, strict=True)
    ]


def evaluations_in(columns: dict[str, Any]) -> list[EvaluationRecord]:
    """Return the records of tests whose :func:`columns_of` are given.

    :raises ValueError: see :func:`updates_in`.
    """
    return [EvaluationRecord(steps, returns) for steps, returns in _rows(columns)]


def _present(names: list[str], values: list[float]) -> dict[str, float]:
    return {name: value for name, value in zip(names, values, strict=True) if not math.isnan(value)}


def _rows(columns: dict[str, Any]) -> list[tuple[int, tuple[float, ...]]]:
    """Return environment steps and returns of each record."""
    ends = np.cumsum(columns["episodes"])
    returns = columns["episode_returns"]
    if (columns["episodes"] < 0).any() or len(returns) != (ends[-1] if len(ends) else 0):
        raise ValueError(f"the records must have {ends[-1:].tolist()} episodes, got {len(returns)}")
    parts = np.split(returns, ends[:-1]) if len(ends) else []
    return [(n, tuple(part.tolist())) for n, part in zip(columns["env_steps"].tolist(), parts, strict=True)]
