"""What a rollout must be, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tianshou.data import Batch
from torch import Tensor

__all__ = ["check_finite"]


def check_finite(batch: Batch) -> None:
    """Check that observations, actions and rewards of a rollout are finite.

    :raises ValueError: naming the field, how many rows are affected and the first of them.
    """
    for field in ("obs", "obs_next", "act", "rew"):
        for path, array in _leaves(batch.get(field), field):
            if array.dtype.kind != "f":
                continue
            entries = np.isfinite(array)
            if not entries.all():
                finite = entries.reshape(len(array), -1).all(axis=1)
                first = int(np.argmin(finite))
                raise ValueError(
                    f"batch.{path} must be finite, got {array[first].tolist()!r} in row {first} "
                    f"({int((~finite).sum())} of {len(finite)} rows); nothing was updated: "
                    "look for the environment or wrapper that produces it"
                )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Batch):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, Tensor):
        yield path, value.detach().cpu().numpy()
