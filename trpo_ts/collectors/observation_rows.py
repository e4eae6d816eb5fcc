"""Observations of several environments as one array, or one batch of arrays for a Dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tianshou.data import Batch

__all__ = [
    "as_rows",
    "joined_observations",
    "observations_of",
    "size_of",
    "stacked_observations",
    "with_rows",
]


def stacked_observations(observations: Sequence[Any]) -> Any:
    """Return the observations of several environments, copied, as arrays ``(R, ...)``.

    A Dict becomes a batch of such arrays by key. Observations of several shapes, and words, become an array of objects,
    as in Tianshou's vector environments and batches.
    """
    first = observations[0]
    is_array = isinstance(first, np.ndarray)
    if not is_array and isinstance(first, Mapping):
        batch = Batch()
        for key in first:
            batch.__dict__[key] = stacked_observations([obs[key] for obs in observations])
        return batch
    try:
        stacked = np.array(observations) if is_array else np.stack(observations)
    except ValueError:
        return np.array(observations, dtype=object)
    return stacked.astype(object) if stacked.dtype.kind in "US" else stacked


def observations_of(value: Any, *, fresh: bool = True) -> Any:
    """Return what a vector environment returned, by key for a Dict.

    :param value: an array, an array of dictionaries, or a dictionary or batch of arrays.
    :param fresh: whether the environment returns new arrays at each step; else they are copied.
    """
    if isinstance(value, Mapping | Batch):
        batch = Batch()
        for key, item in value.items():
            batch.__dict__[key] = observations_of(item, fresh=fresh)
        return batch
    value = np.asarray(value)
    if value.dtype == object and len(value) and isinstance(value[0], Mapping):
        return stacked_observations(value)
    return value if fresh else value.copy()


def with_rows(obs: Any, where: np.ndarray, other: Any) -> Any:
    """Return observations with those of some rows replaced; the first are not changed."""
    if isinstance(obs, Batch):
        batch = Batch()
        for key, item in obs.items():
            batch.__dict__[key] = with_rows(item, where, other[key])
        return batch
    obs = obs.copy()
    obs[where] = other
    return obs


def joined_observations(steps: Sequence[Any]) -> Any:
    """Return the observations of several steps, one after another."""
    if isinstance(steps[0], Batch):
        batch = Batch()
        for key in steps[0].get_keys():
            batch.__dict__[key] = joined_observations([step[key] for step in steps])
        return batch
    return np.concatenate(steps)


def as_rows(obs: Any) -> np.ndarray:
    """Return observations as Tianshou's collector keeps them: for a Dict, an array of dictionaries."""
    if not isinstance(obs, Batch):
        return np.asarray(obs)
    rows = np.empty(len(obs), dtype=object)
    rows[:] = [_row(obs, i) for i in range(len(obs))]
    return rows


def _row(obs: Batch, index: int) -> dict[str, Any]:
    return {key: _row(item, index) if isinstance(item, Batch) else item[index] for key, item in obs.items()}


def size_of(obs: Any) -> int:
    """Return the bytes of observations; of objects, those of their references."""
    return sum(map(size_of, obs.values())) if isinstance(obs, Batch) else int(obs.nbytes)
