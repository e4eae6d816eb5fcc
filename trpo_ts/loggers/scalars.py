"""The numbers in the statistics that a trainer hands to its logger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np

__all__ = ["scalars_of"]

_SUMMARY = {"mean", "std", "max", "min"}
_REPEATED = "smoothed_loss"
"""Tianshou's moving averages of all the other statistics; TensorBoard and Weights & Biases smooth curves themselves."""


def scalars_of(log_data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers in nested statistics by their names, joined by slashes as Tianshou joins them.

    A summary of a single number has its ``mean`` only: the other three say nothing. Of episodes it is known how many
    there are; other summaries are those of a single number where ``min`` and ``max`` are the same.

    :param log_data: the stats as a dict; None and arrays are left out.
    """
    return dict(_scalars(log_data, ""))


def _scalars(data: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            if key == _REPEATED:
                continue
            if value.keys() == _SUMMARY and _is_single(value, data.get(str(key).removesuffix("_stat"))):
                value = {"mean": value["mean"]}
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, Number | np.number | np.bool_):
            yield f"{prefix}{key}", value


def _is_single(summary: Mapping[str, Any], values: Any) -> bool:
    """Whether a summary is that of one number; ``values`` are those that it sums up, where they are known."""
    if isinstance(values, np.ndarray):
        return len(values) == 1
    return bool(summary["min"] == summary["max"])
