"""How the time of an update grows with the rollout and with the networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import common
import numpy as np

from updates.sides import TIANSHOU_LIKE, build
from updates.start import synthetic_start
from updates.timing import quotient, seconds_of_updates

__all__ = ["POINTS", "SAMPLES", "WIDTH", "growth"]

SAMPLES, WIDTH = 4096, 64
POINTS = dict.fromkeys(
    [(1024 * 2**i, WIDTH) for i in range(7)] + [(SAMPLES, width) for width in (32, 64, 128, 256, 512)]
)
"""Samples and widths: along each of both, while the other is :data:`SAMPLES` or :data:`WIDTH`."""


def growth(points: Iterable[tuple[int, int]], rounds: int, device: str = "cpu") -> dict[str, Any]:
    """Return the times of updates of so many samples, with networks of two hidden layers of such a width."""
    found = [_point(samples, width, rounds, device) for samples, width in points]
    return {"environment": common.environment(), "points": found}


def _point(samples: int, width: int, rounds: int, device: str) -> dict[str, Any]:
    start = synthetic_start(samples, (width, width), device)
    sides = {name: build(name, start) for name in TIANSHOU_LIKE}
    seconds = seconds_of_updates(sides, rounds)
    baseline = seconds[TIANSHOU_LIKE[0]]
    point = {
        "samples": samples,
        "width": width,
        "milliseconds": {name: round(1e3 * float(np.median(s)), 3) for name, s in seconds.items()},
        "speed_up": {name: round(quotient(baseline, s), 3) for name, s in seconds.items()},
        "products": {name: side.products() for name, side in sides.items()},
    }
    print(point, flush=True)
    return point
