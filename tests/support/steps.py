"""Policy steps with settings for tests."""

from __future__ import annotations

from typing import Any

from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.solver.trust_region import PolicyStep, SolverSettings, fixed_step, natural_gradient, trust_region_step

EXACT = SolverSettings(iterations=400, damping=0.1, tolerance=1e-13)


def trpo(problem: PolicyProblem, start: Point, *, solver: SolverSettings = EXACT, **settings: Any) -> PolicyStep:
    direction = natural_gradient(problem, problem.linearise(start), solver)
    return trust_region_step(
        problem, start, direction, **{"max_kl": 0.01, "backtrack_coeff": 0.8, "max_backtracks": 10, **settings}
    )


def npg(problem: PolicyProblem, start: Point, *, factor: float = 0.5) -> PolicyStep:
    return fixed_step(problem, start, natural_gradient(problem, problem.linearise(start), EXACT), factor=factor)
