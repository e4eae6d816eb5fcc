"""How many Fisher products, and how long, a solve of given accuracy takes with and without the preconditioner."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from updates.judge import Judge
from updates.timing import quotient, seconds_of, take_turns

__all__ = ["solves"]

TARGETS, DAMPINGS = (0.9, 0.95), (0.1, 0.01)
MOST_PRODUCTS = 1024


def solves(judge: Judge, rounds: int) -> list[dict[str, Any]]:
    """Return products and times of both solvers, at each damping, for each optimality to reach."""
    rows = []
    for damping in DAMPINGS:
        for target in TARGETS:
            products = {name: _fewest(judge, damping, target, name == "K-FAC") for name in ("plain", "K-FAC")}
            # The time includes building the preconditioner.
            seconds = take_turns(
                {
                    name: partial(seconds_of, partial(judge.direction, damping, count, name == "K-FAC"))
                    for name, count in products.items()
                },
                rounds,
            )
            rows.append(
                {
                    "damping": damping,
                    "target": target,
                    "products": products,
                    "milliseconds": {name: round(1e3 * float(np.median(s)), 3) for name, s in seconds.items()},
                    "speed_up": round(quotient(seconds["plain"], seconds["K-FAC"]), 3),
                }
            )
    return rows


def _fewest(judge: Judge, damping: float, target: float, preconditioned: bool) -> int:
    """Return the fewest products that reach the target, found by doubling and bisection."""

    def reaches(products: int) -> bool:
        return judge.optimality(judge.direction(damping, products, preconditioned), damping) >= target

    high = 1
    while not reaches(high):
        high *= 2
        if high > MOST_PRODUCTS:
            raise ValueError(f"optimality {target} must be reached within {MOST_PRODUCTS} products, it was not")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high
