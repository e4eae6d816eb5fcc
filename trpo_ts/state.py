"""The state of an algorithm as plain numbers and tensors, which ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from tianshou.utils import RunningMeanStd

__all__ = ["load_return_statistics", "plain", "return_statistics"]


def plain(value: Any) -> Any:
    """Return nested dicts and sequences with NumPy numbers made Python's; tensors stay.

    A learning-rate schedule of Tianshou's turns the optimiser's rate into a ``np.float64``, which the safe
    loader of torch refuses.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def return_statistics(statistics: RunningMeanStd) -> dict[str, float | int]:
    """Return the running statistics of the returns."""
    return {
        "mean": float(statistics.mean),
        "var": float(statistics.var),
        "count": int(statistics.count),
    }


def load_return_statistics(statistics: RunningMeanStd, state: dict[str, Any]) -> None:
    """Set running statistics to those that :func:`return_statistics` gave."""
    statistics.mean, statistics.var = np.float64(state["mean"]), np.float64(state["var"])
    statistics.count = int(state["count"])
