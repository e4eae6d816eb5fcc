"""One case: every side's time, and how good its step is."""

from __future__ import annotations

from typing import Any

import numpy as np

from updates.cases import Case
from updates.judge import Judge
from updates.sides import BASELINE, build
from updates.solve import solves
from updates.timing import quotient, seconds_of_updates

__all__ = ["compare"]

SOLVE_ROUNDS = 5


def compare(case: Case) -> dict[str, Any]:
    """Return times, ratios and qualities of all sides, and what a solve of given accuracy takes."""
    start = case.start()
    judge = Judge(start)
    sides = {name: build(name, start) for name in case.sides}
    seconds = seconds_of_updates(sides, case.rounds)
    found: dict[str, Any] = {}
    for name, side in sides.items():
        policy, critic = side.networks()
        errors = judge.critic_errors(critic)
        found[name] = {
            "milliseconds": round(1e3 * float(np.median(seconds[name])), 3),
            "speed_up": round(quotient(seconds[BASELINE], seconds[name]), 3),
            "products": side.products(),
            "optimality": round(judge.step_optimality(policy), 4),
        }
        # Without held-out data the rewards are random numbers, and there is nothing to fit.
        if len(errors) == 2:
            found[name] |= dict(zip(("critic_error", "critic_error_held_out"), errors, strict=True))
    return {"case": case.name, "rounds": case.rounds, "sides": found, "accuracy": solves(judge, SOLVE_ROUNDS)}
