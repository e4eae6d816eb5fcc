r"""One step of the policy: natural gradient (NPG), and the same within a trust region (TRPO).

.. math:: x \approx (F + cI)^{-1} g, \qquad \theta' = \theta + \alpha x

Direction and scale are separate: conjugate gradient knows no KL divergence, the line search no Fisher matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from trpo_ts.natural_gradient.conjugate_gradient import Solution, SolveOutcome, conjugate_gradient, stable_norm
from trpo_ts.natural_gradient.fisher import damped
from trpo_ts.natural_gradient.kfac import KFAC
from trpo_ts.natural_gradient.line_search import Rejection, backtracking_line_search, step_size
from trpo_ts.natural_gradient.preconditioner import KroneckerPreconditioner
from trpo_ts.natural_gradient.problem import Linearisation, Point, PolicyProblem

__all__ = ["PolicyStep", "SolverSettings", "StepOutcome", "natural_gradient_step", "trust_region_step"]


class StepOutcome(IntEnum):
    """What became of a policy step; the number stands in the training stats as ``outcome``."""

    ACCEPTED = 0
    CONSTANT_ADVANTAGES = 1
    """The advantages prefer no action: zero, constant, or a single transition."""
    ZERO_GRADIENT = 2
    NON_FINITE_GRADIENT = 3
    NON_POSITIVE_CURVATURE = 4
    """The Fisher products gave no usable direction (they may not be finite); a larger ``cg_damping`` helps."""
    KL_ABOVE_BOUND = 5
    """The shortest candidate of the line search still had a KL divergence above ``max_kl``."""
    NO_IMPROVEMENT = 6
    """The shortest candidate kept the KL bound, and did not improve the surrogate."""
    NON_FINITE_CANDIDATE = 7


@dataclass(frozen=True)
class SolverSettings:
    """How the direction is computed: see the parameters ``cg_*`` of :class:`trpo_ts.TRPO`."""

    iterations: int
    damping: float
    tolerance: float
    preconditioner: KFAC | None = None
    slices: Mapping[str, slice] = field(default_factory=dict)
    """Where each parameter stands in the parameter vector, for the preconditioner."""


@dataclass(frozen=True)
class PolicyStep:
    r"""A policy step and what explains it.

    :param start: where it began.
    :param end: where it ended: ``start`` itself when the step was not accepted.
    :param outcome: what became of it.
    :param gradient: :math:`g = \nabla_\theta L` at the start, shape ``(P,)``.
    :param solution: the solve behind the direction, without iterations when it was not reached.
    :param step_size: :math:`\alpha`, 0.0 when no step was taken.
    :param fraction: the part of the full step that was taken, in ``[0, 1]``.
    :param backtracks: how often the step was shortened.
    """

    start: Point
    end: Point
    outcome: StepOutcome
    gradient: Tensor
    solution: Solution
    step_size: float = 0.0
    fraction: float = 0.0
    backtracks: int = 0

    @property
    def accepted(self) -> bool:
        """Whether the policy moved."""
        return self.outcome is StepOutcome.ACCEPTED

    @property
    def improvement(self) -> float:
        """By how much the step raised the objective."""
        return self.end.evaluation.objective - self.start.evaluation.objective if self.accepted else 0.0

    @property
    def expected_improvement(self) -> float:
        r"""The first-order prediction of the improvement, :math:`g^\top (\theta' - \theta)`."""
        return float(self.gradient.dot(self.end.theta - self.start.theta)) if self.accepted else 0.0


def trust_region_step(
    problem: PolicyProblem,
    start: Point,
    *,
    solver: SolverSettings,
    max_kl: float,
    backtrack_coeff: float,
    max_backtracks: int,
    full_budget: bool = False,
) -> PolicyStep:
    r"""Take one TRPO step (arXiv:1502.05477, appendix C).

    The full step ends at :math:`\theta_{old} + \sqrt{2\delta / x^\top A x}\, x`, the optimum of the linear model
    of the surrogate within the quadratic model of the trust region around the behaviour policy. From
    :math:`\theta_{old}` it is the paper's step; from a later point it is the next step of sequential quadratic
    programming on the same problem, so that repeated steps share one KL budget.

    :param problem: surrogate and KL divergence over the rollout.
    :param start: where to start, within the trust region.
    :param solver: how the direction is computed.
    :param max_kl: the bound :math:`\delta`, in nats.
    :param backtrack_coeff: the factor between candidates, in ``(0, 1)``.
    :param max_backtracks: the number of candidates, >= 1.
    :param full_budget: whether the quadratic model leaves the damping out: :math:`x^\top F x` instead of
        :math:`x^\top A x`.
    """
    model = problem.linearise(start.theta)
    solution, failure = _search_direction(problem, model, solver)
    if failure is not None:
        return PolicyStep(start, start, failure, model.gradient, solution)
    curvature = _undamped(solution, solver.damping) if full_budget else solution.curvature
    full_step_size = step_size(max_kl, curvature)
    full_step = (problem.theta_old - start.theta) + full_step_size * solution.x
    search = backtracking_line_search(
        lambda fraction: problem.evaluate(start.theta + fraction * full_step),
        start.evaluation,
        max_kl=max_kl,
        backtrack_coeff=backtrack_coeff,
        max_backtracks=max_backtracks,
    )
    if search.rejection is not None:
        outcome = _OUTCOME_OF_REJECTION[search.rejection]
        return PolicyStep(start, start, outcome, model.gradient, solution, backtracks=search.backtracks)
    return PolicyStep(
        start,
        Point(start.theta + search.fraction * full_step, search.evaluation),
        StepOutcome.ACCEPTED,
        model.gradient,
        solution,
        step_size=search.fraction * full_step_size,
        fraction=search.fraction,
        backtracks=search.backtracks,
    )


def natural_gradient_step(
    problem: PolicyProblem, start: Point, *, solver: SolverSettings, trust_region_size: float
) -> PolicyStep:
    r"""Take one natural policy gradient step of fixed size: :math:`\theta' = \theta + \eta (F + cI)^{-1} g`.

    Kakade 2001, A Natural Policy Gradient, section 2. There is no line search; only a candidate whose surrogate
    or KL divergence is not finite is turned down.

    :param problem: surrogate and KL divergence over the rollout.
    :param start: where to start.
    :param solver: how the direction is computed.
    :param trust_region_size: the factor :math:`\eta` > 0.
    """
    model = problem.linearise(start.theta)
    solution, failure = _search_direction(problem, model, solver)
    if failure is not None:
        return PolicyStep(start, start, failure, model.gradient, solution)
    theta = start.theta + trust_region_size * solution.x
    evaluation = problem.evaluate(theta)
    if not evaluation.is_finite:
        return PolicyStep(start, start, StepOutcome.NON_FINITE_CANDIDATE, model.gradient, solution)
    return PolicyStep(
        start,
        Point(theta, evaluation),
        StepOutcome.ACCEPTED,
        model.gradient,
        solution,
        step_size=trust_region_size,
        fraction=1.0,
    )


_OUTCOME_OF_REJECTION = {
    Rejection.KL: StepOutcome.KL_ABOVE_BOUND,
    Rejection.NO_IMPROVEMENT: StepOutcome.NO_IMPROVEMENT,
    Rejection.NON_FINITE: StepOutcome.NON_FINITE_CANDIDATE,
}


def _search_direction(
    problem: PolicyProblem, model: Linearisation, solver: SolverSettings
) -> tuple[Solution, StepOutcome | None]:
    """Solve for the natural gradient, and say what is wrong where there is none."""
    none = Solution(torch.zeros_like(model.gradient), 0, 0.0, 0.0, SolveOutcome.CONVERGED)
    gradient_norm = stable_norm(model.gradient)
    if not math.isfinite(gradient_norm):
        return none, StepOutcome.NON_FINITE_GRADIENT
    if problem.advantages_are_constant:
        return none, StepOutcome.CONSTANT_ADVANTAGES
    if gradient_norm == 0.0:
        return none, StepOutcome.ZERO_GRADIENT
    solution = conjugate_gradient(
        damped(model.fisher, solver.damping),
        model.gradient,
        max_iterations=solver.iterations,
        tolerance=solver.tolerance,
        preconditioner=_preconditioner(model, solver),
    )
    # A later direction of non-positive curvature leaves a usable solution from the earlier ones; the first does not.
    if not (math.isfinite(solution.curvature) and solution.curvature > 0.0):
        return solution, StepOutcome.NON_POSITIVE_CURVATURE
    return solution, None


def _undamped(solution: Solution, damping: float) -> float:
    r"""Return :math:`x^\top F x = x^\top A x - c \|x\|^2`, at least a tenth of :math:`x^\top A x`.

    Where damping is nearly all of the curvature, the quadratic model without it says nothing of the divergence.
    """
    norm = stable_norm(solution.x)
    return max(solution.curvature - damping * norm * norm, 0.1 * solution.curvature)


def _preconditioner(model: Linearisation, solver: SolverSettings) -> KroneckerPreconditioner | None:
    if solver.preconditioner is None or model.moments is None:
        return None
    return solver.preconditioner.at(model.moments, solver.slices, solver.damping)
