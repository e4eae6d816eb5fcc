"""How the deviation of returns goes on where targets are scaled in Tianshou's order of things, and in this package's.

    python benchmarks/return_unit.py            # measure, write results/return_unit.json and the table in docs
    python benchmarks/return_unit.py --table    # the table only, from the committed results

Pendulum, 30 updates of 2,048 steps each, from the same seeds with each way to fit the critic: ``return_scaling`` with
Tianshou's unit, with this package's, and off, which tells the true deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import common
import gymnasium as gym
import numpy as np
from updates.training import Training, networks
from updates.units import TianshousUnit, Unscaled

from trpo_ts import TRPO
from trpo_ts.critics import CriticFit, GaussNewtonFit, MinibatchFit, OptimizerFit

TASK, SEEDS, UPDATES, SAMPLES, SHOWN = "Pendulum-v1", range(4), 30, 2048, (1, 6, 30)
UNITS: dict[str, type[TRPO]] = {"Tianshou's": TianshousUnit, "trpo_ts": TRPO, "off": Unscaled}
FITS: dict[str, CriticFit] = {
    "20 Adam steps": OptimizerFit(20),
    "5 epochs of Adam, minibatches of 64": OptimizerFit(5, 64),
    "`MinibatchFit()`": MinibatchFit(),
    "`GaussNewtonFit()`": GaussNewtonFit(),
}


def run(task: str, seed: int, updates: int = UPDATES) -> Iterator[dict[str, Any]]:
    """Train with each fit in each unit, and yield what happened after each update."""
    for fit, unit in product(FITS, UNITS):
        training = Training(
            partial(gym.make, task),
            partial(networks, hidden=(64, 64)),
            SAMPLES,
            kind=UNITS[unit],
            seed=seed,
            normalise=False,
            gamma=0.95,
            return_scaling=unit != "off",
            critic_fit=FITS[fit],
        )
        found: dict[str, list[float]] = {"deviation": [], "explained_variance": [], "reward": []}
        for _ in range(updates):
            rollout = training.collect(SAMPLES)
            stats = training.update(rollout)
            found["deviation"].append(float(np.sqrt(training.algorithm.ret_rms.var)))
            found["explained_variance"].append(float(stats.explained_variance))
            found["reward"].append(float(np.mean(rollout.rew)))
        yield {"task": task, "seed": seed, "fit": fit, "unit": unit, **found}


def table(rows: list[dict[str, Any]]) -> str:
    """Return, for each fit and unit, the least and the largest over the seeds."""
    lines = []
    for fit, unit in product(FITS, UNITS):
        chosen = [row for row in rows if (row["fit"], row["unit"]) == (fit, unit)]
        deviations = [_range([row["deviation"][i - 1] for row in chosen], 0) for i in SHOWN]
        last = (_range([row[name][-1] for row in chosen], 2) for name in ("explained_variance", "reward"))
        lines.append([fit, unit, *deviations, *last])
    header = ["fit", "unit", *(f"deviation after {i}" for i in SHOWN), "explained variance", "reward per step"]
    return common.markdown_table(header, lines)


def _range(values: list[float], digits: int) -> str:
    least, largest = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return least if least == largest else f"{least} to {largest}"


if __name__ == "__main__":
    if common.asked_to_measure("The deviation of scaled returns over the training."):
        common.measure_seeds("return_unit", run, SEEDS, [TASK])
    common.write_table("return-unit", table(common.load("return_unit")["rows"]))
