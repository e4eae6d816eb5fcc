"""The tables of studies that are decided: their benchmarks are in the history, their data in benchmarks/results/."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import common
import numpy as np

__all__ = ["TABLES"]

Rows = list[dict[str, Any]]
CHEETAH_AND_WALKER = ("HalfCheetah-v4", "Walker2d-v4")


def directions(rows: Rows) -> str:
    """Gains and divergences of steps on unseen data, summed over seeds and rollouts, over Tianshou's gains."""
    plain = "plain, 10 products, damping 0.1"
    models = ("K-FAC, damping 0.1, tolerance 0.5", *(f"K-FAC, damping 0.1, model {m}, tolerance 0.9" for m in (5, 20)))
    columns = list(product(CHEETAH_AND_WALKER, ((30, 100), (300, 550))))

    def values(solver: str, task: str, moments: tuple[int, int], key: str) -> list[float]:
        return [r[key] for r in rows if (r["solver"], r["task"]) == (solver, task) and r["updates"] in moments]

    def cell(solver: str, *column: Any) -> str:
        gain = sum(values(solver, *column, "step")) / sum(values(plain, *column, "step"))
        return f"{gain:.2f}, {np.mean(values(solver, *column, 'share')):.2f}"

    header = [f"{task[:-3]}, {early} and {late}" for task, (early, late) in columns]
    lines = [[solver, *(cell(solver, *column) for column in columns)] for solver in (plain, *models)]
    return common.markdown_table(["solver", *header], lines)


def critic(rows: Rows) -> str:
    """Errors over those of 20 Adam steps, geometric means over seeds and stages."""
    fits = ["MinibatchFit(10, 128)"]
    fits += [f"GaussNewtonFit(steps={s}, cg_iters={c}, damping=0.01)" for s, c in ((1, 1), (1, 2), (2, 2))]
    errors = {(r["fit"], r["task"], r["seed"], r["updates"]): r for r in rows if r["start"] == "own"}

    def cell(fit: str, task: str) -> str:
        pairs = [(errors[key], errors["20 Adam steps", *key[1:]]) for key in errors if key[:2] == (fit, task)]
        means = (
            math.exp(np.mean([math.log(a[error] / b[error]) for a, b in pairs]))
            for error in ("rollout", "held_out", "true_returns")
        )
        return ", ".join(f"{mean:.2f}" for mean in means)

    lines = [[f"`{fit}`", *(cell(fit, task) for task in CHEETAH_AND_WALKER)] for fit in fits]
    return common.markdown_table(["fit", *CHEETAH_AND_WALKER], lines)


def return_unit(rows: Rows) -> str:
    """Least and largest over the seeds: the deviation of returns after updates, the reward in the last."""
    columns = [("Tianshou's", "deviation", 6), ("Tianshou's", "deviation", 30), ("trpo_ts", "deviation", 30)]
    columns += [(unit, "reward", 30) for unit in ("Tianshou's", "trpo_ts", "off")]

    def cell(fit: str, unit: str, key: str, update: int) -> str:
        values = [r[key][update - 1] for r in rows if (r["fit"], r["unit"]) == (fit, unit)]
        return " to ".join(f"{value:,.{0 if key == 'deviation' else 2}f}" for value in (min(values), max(values)))

    fits = dict.fromkeys(row["fit"] for row in rows)
    header = [f"{unit}: {key} after {update}" for unit, key, update in columns]
    return common.markdown_table(["fit", *header], [[fit, *(cell(fit, *c) for c in columns)] for fit in fits])


TABLES = {"directions": directions, "critic": critic, "return_unit": return_unit}
