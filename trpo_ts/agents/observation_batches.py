"""Observations of one environment or of several, as the user has them, in the form that a policy takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.data import Batch
from torch import Tensor

from trpo_ts.collectors.observation_rows import stacked_observations

__all__ = ["as_batch"]


def as_batch(space: gym.Space[Any], obs: Any) -> tuple[Any, int | None]:
    """Return observations with a leading axis, and how many they are, None for a single one.

    :param space: the space of one observation; where it is a Dict with the keys ``"0"``, ``"1"``..., Tuples are taken
        too.
    :param obs: one observation; or several, with a leading axis in each part; or a sequence of Dicts.
    :raises ValueError: for observations of another form, naming what came and what is expected.
    """
    if isinstance(space, spaces.Dict) and isinstance(obs, list | np.ndarray):
        obs = _joined(space, obs)
    counts: dict[str, int | None] = {}
    value = _converted(space, obs, "obs", counts)
    if len(set(counts.values())) != 1:
        raise ValueError(
            "obs must be one observation, or have one number of rows in all its parts, got "
            + ", ".join(f"{'no leading axis' if n is None else f'{n} rows'} in {part}" for part, n in counts.items())
        )
    count = next(iter(counts.values()))
    return (_with_leading_axis(value) if count is None else value), count


def _joined(space: spaces.Dict, obs: Any) -> Any:
    """Return a sequence of Dicts, as Tianshou's vector environments give them, as one Dict with leading axes."""
    rows = list(obs) if np.ndim(obs) else [obs]
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"obs must be a Dict with the keys {_keys(space)}, got a {type(obs).__name__}")
    try:
        return stacked_observations(rows)
    except KeyError as error:
        raise ValueError(f"obs must be Dicts with the keys {_keys(space)}, got one without {error}") from error


def _converted(space: gym.Space[Any], value: Any, name: str, counts: dict[str, int | None]) -> Any:
    """Return arrays for leaves and batches for Dicts, and note how many rows each leaf has."""
    if not isinstance(space, spaces.Dict):
        array = _array(space, value, name)
        counts[name] = _rows(space, array, name)
        return array
    keys = list(space.spaces)
    if isinstance(value, tuple) and set(keys) == {str(i) for i in range(len(value))}:
        value = {str(i): part for i, part in enumerate(value)}
    if not isinstance(value, Mapping | Batch):
        raise ValueError(f"{name} must be a Dict with the keys {_keys(space)}, got a {type(value).__name__}")
    missing = [key for key in keys if key not in value.keys()]  # noqa: SIM118  a Batch is no Mapping
    if missing:
        got = ", ".join(map(repr, value.keys())) or "none"
        raise ValueError(f"{name} must have the keys {_keys(space)}, got {got}")
    batch = Batch()
    for key, part in space.spaces.items():
        # Not through the Batch's own setter, which takes keys with a dot apart.
        batch.__dict__[key] = _converted(part, value[key], f"{name}[{key!r}]", counts)
    return batch


def _array(space: gym.Space[Any], value: Any, name: str) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be one array, got a ragged sequence: {error}") from error
    real = isinstance(space, spaces.Box) and space.dtype.kind == "f"
    if array.dtype.kind not in ("fiub" if real else "iub"):
        wanted = "numbers" if real else f"integers, as {space.dtype}"
        raise ValueError(f"{name} must be {wanted}, got an array of dtype {array.dtype}")
    if real and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return array


def _rows(space: gym.Space[Any], array: np.ndarray, name: str) -> int | None:
    """Return the number of rows of an array; None for one observation.

    :raises ValueError: for another shape, no row at all, and categories that the space does not have.
    """
    shape = tuple(space.shape or ())
    if array.shape != shape and (array.ndim == 0 or array.shape[1:] != shape):
        batch = ", ".join(["N", *map(str, shape)])
        raise ValueError(f"{name} must have the shape {shape}, or ({batch}) for a batch, got {array.shape}")
    if array.ndim > len(shape) and len(array) == 0:
        raise ValueError(f"{name} must be at least one observation, got a batch without any")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        start = np.asarray(space.start)
        end = start + (space.n if isinstance(space, spaces.Discrete) else space.nvec)
        outside = (array < start) | (array >= end)
        if outside.any():
            raise ValueError(f"{name} must be in {space}, got {array[outside].flat[0]}")
    return None if array.ndim == len(shape) else len(array)


def _with_leading_axis(value: Any) -> Any:
    if not isinstance(value, Batch):
        return value[None]
    batch = Batch()
    for key, part in value.items():
        batch.__dict__[key] = _with_leading_axis(part)
    return batch


def _keys(space: spaces.Dict) -> str:
    return ", ".join(map(repr, space.spaces))
