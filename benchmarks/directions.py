r"""Which search direction gains most on data that it has not seen: what the damping is chosen by.

    python benchmarks/directions.py            # measure, write results/directions.json and the table in docs
    python benchmarks/directions.py --table    # the table only, from the committed results

A policy learns, with the settings :data:`LEARNER`. At some moments 24 rollouts are collected, and a large one of the
same policy that stands for the truth. Each solver computes its direction :math:`x` from each of the 24, and is judged
by the large one: its surrogate gradient :math:`\hat g` and Fisher matrix :math:`\hat F` give the gain per root of
divergence, :math:`\hat g^\top x / \sqrt{x^\top \hat F x}`, whatever the step's length, and the gain of the step as
it is scaled, :math:`\hat g^\top x \sqrt{2\delta / x^\top A x}`, with the rollout's own :math:`A = F + cI`, or with
:math:`F` where the step uses its full budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import common
import gymnasium as gym
import numpy as np
from updates.local import Local, batch_of, local
from updates.training import Training, networks

from trpo_ts import KFAC
from trpo_ts.solver.conjugate_gradient import Solution, conjugate_gradient
from trpo_ts.solver.linear_operators import damped
from trpo_ts.solver.problem import Linearisation

TASKS, SEEDS = ("HalfCheetah-v4", "Walker2d-v4"), (60, 61)
PHASES = ((30, 100), (300, 550))  # the moments, in updates, as the table sums them
SAMPLES, ROLLOUTS, TRUTH = 1024, 24, 64 * 1024
MAX_KL, HIDDEN = 0.01, (64, 64)
LEARNER = {"preconditioner": KFAC(relative_damping=10.0)}


@dataclass(frozen=True)
class Solver:
    """A way to a direction: Tianshou's ten plain products, or K-FAC's."""

    cg_damping: float = 0.1
    relative_damping: float = 0.0
    cg_tolerance: float = 0.9
    of_tianshou: bool = False

    @property
    def name(self) -> str:
        """As the table calls it."""
        if self.of_tianshou:
            return f"plain, 10 products, damping {self.cg_damping:g}"
        model = f", model {self.relative_damping:g}" if self.relative_damping else ""
        return f"K-FAC, damping {self.cg_damping:g}{model}, tolerance {self.cg_tolerance:g}"

    def solve(self, model: Linearisation, slices: dict[str, slice]) -> Solution:
        """Return the direction from one rollout."""
        operator = damped(model.fisher, self.cg_damping)
        if self.of_tianshou or model.moments is None:
            return conjugate_gradient(operator, model.gradient)
        preconditioner = KFAC(relative_damping=self.relative_damping).at(model.moments, slices, self.cg_damping)
        return conjugate_gradient(operator, model.gradient, tolerance=self.cg_tolerance, preconditioner=preconditioner)


TIANSHOU = Solver(of_tianshou=True)
SOLVERS = (
    TIANSHOU,
    *(Solver(damping, cg_tolerance=0.5) for damping in (0.1, 1.0, 3.0)),
    *(Solver(relative_damping=relative, cg_tolerance=0.5) for relative in (3.0, 10.0)),
    *(Solver(relative_damping=relative) for relative in (3.0, 5.0, 10.0, 20.0, 40.0)),
)


def collected(training: Training, samples: int) -> Local:
    """Return the problem's local model from the policy's next transitions."""
    return local(training.algorithm, batch_of(training.algorithm, training.collect(samples)))


def judged(solver: Solver, rollout: Local, truth: Linearisation) -> dict[str, float]:
    """Return what the direction from a rollout gains by the truth, to first order."""
    model = rollout.model
    solution = solver.solve(model, rollout.parameters.slices)
    x = solution.x
    gain, true_curvature, curvature = (float(x.dot(v)) for v in (truth.gradient, truth.fisher(x), model.fisher(x)))
    damped_curvature = curvature + solver.cg_damping * float(x.dot(x))
    return {
        "per_divergence": gain / math.sqrt(true_curvature),
        "step": gain * math.sqrt(2 * MAX_KL / damped_curvature),
        "full_step": gain * math.sqrt(2 * MAX_KL / curvature),
        "share": true_curvature / damped_curvature,
        "products": float(solution.iterations),
    }


def run(task: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train on a task, and yield each solver's means at each moment."""
    training = Training(partial(gym.make, task), partial(networks, hidden=HIDDEN), TRUTH, seed=seed, **LEARNER)
    moments = [updates for phase in PHASES for updates in phase]
    for updates in range(max(moments) + 1):
        if updates in moments:
            truth = collected(training, TRUTH)
            rollouts = [collected(training, SAMPLES) for _ in range(ROLLOUTS)]
            for solver in SOLVERS:
                found = [judged(solver, rollout, truth.model) for rollout in rollouts]
                means = {key: float(np.mean([f[key] for f in found])) for key in found[0]}
                yield {"task": task, "seed": seed, "updates": updates, "solver": solver.name, **means}
        training.update(training.collect(SAMPLES))


def table(rows: list[dict[str, Any]]) -> str:
    """Return, by task and phase, gains, summed, over those of Tianshou's solver and step; and means of the rest."""

    def total(task: str, phase: Sequence[int], solver: Solver, key: str) -> float:
        return sum(row[key] for row in _chosen(rows, task, phase, solver))

    def cells(task: str, solver: Solver, phase: Sequence[int]) -> Iterator[str]:
        yield " / ".join(
            f"{total(task, phase, solver, key) / total(task, phase, TIANSHOU, unit):.2f}"
            for key, unit in (("per_divergence", "per_divergence"), ("step", "step"), ("full_step", "step"))
        )
        count = len(_chosen(rows, task, phase, solver))
        yield f"{total(task, phase, solver, 'share') / count:.2f}"
        yield f"{total(task, phase, solver, 'products') / count:.1f}"

    header = ["task", "solver"]
    for phase in PHASES:
        header += [f"after {' and '.join(map(str, phase))} updates: gain", "divergence", "products"]
    tasks = dict.fromkeys(row["task"] for row in rows)
    lines = [[t, s.name, *(cell for phase in PHASES for cell in cells(t, s, phase))] for t in tasks for s in SOLVERS]
    return common.markdown_table(header, lines)


def _chosen(rows: list[dict[str, Any]], task: str, phase: Sequence[int], solver: Solver) -> list[dict[str, Any]]:
    return [r for r in rows if r["task"] == task and r["updates"] in phase and r["solver"] == solver.name]


if __name__ == "__main__":
    if common.asked_to_measure("What directions gain on unseen data."):
        common.measure_seeds("directions", run, SEEDS, TASKS)
    common.write_table("directions", table(common.load("directions")["rows"]))
