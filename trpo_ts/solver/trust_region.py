r"""One step of the policy: natural gradient (NPG), and the same within the trust region :math:`\delta` (TRPO).

.. math:: x \approx (F + cI)^{-1} g, \qquad \theta' = \theta + \alpha x

Direction and length are separate: :func:`natural_gradient` evaluates no KL divergence, :func:`trust_region_step`
multiplies with no Fisher matrix. The paper calls :math:`F` :math:`A`, :math:`x` :math:`s`, and :math:`\alpha`
:math:`\beta` (appendix C).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.kfac.settings import KFAC
from trpo_ts.solver.conjugate_gradient import (
    UNAIDED_TOLERANCE,
    Solution,
    SolveStatus,
    conjugate_gradient,
    stable_norm,
)
from trpo_ts.solver.line_search import backtracking_line_search
from trpo_ts.solver.linear_operators import damped
from trpo_ts.solver.outcomes import StepOutcome
from trpo_ts.solver.problem import Linearisation, Point, PolicyProblem
from trpo_ts.solver.step_size import full_step_size

__all__ = [
    "NaturalGradient",
    "PolicyStep",
    "SolverSettings",
    "fixed_step",
    "natural_gradient",
    "trust_region_step",
]


@dataclass(frozen=True)
class SolverSettings:
    """How the direction is computed: see the parameters ``cg_*`` and ``preconditioner`` of :class:`trpo_ts.TRPO`."""

    iterations: int = 10
    damping: float = 0.1
    tolerance: float = 0.9
    preconditioner: KFAC | None = None


@dataclass(frozen=True)
class NaturalGradient:
    r"""The search direction :math:`x`.

    :param gradient: :math:`g`, shape ``(P,)``.
    :param solution: :math:`x` and how it was found; zero, without a product, where it was not sought.
    :param damping: :math:`c` of the system.
    :param preconditioned: whether a preconditioner was asked for, so that the solution is meant to be close to exact.
    :param failure: why there is no usable direction, None where there is one.
    """

    gradient: Tensor
    solution: Solution
    damping: float
    preconditioned: bool = False
    failure: StepOutcome | None = None


@dataclass(frozen=True)
class PolicyStep:
    r"""A policy step and what explains it.

    :param start: where it began.
    :param end: where it ended: ``start`` itself when the step was not accepted.
    :param outcome: whether it was accepted, and why not.
    :param direction: the gradient and the search direction.
    :param full_step_size: the factor on :math:`x` in the full step: :math:`\alpha` for TRPO, :math:`\eta` for NPG; 0.0
        when no step was taken.
    :param fraction: the share of the full step that the line search accepted, in ``[0, 1]``; 1.0 for NPG.
    :param backtracks: how often the step was shortened.
    """

    start: Point
    end: Point
    outcome: StepOutcome
    direction: NaturalGradient
    full_step_size: float = 0.0
    fraction: float = 0.0
    backtracks: int = 0

    @property
    def step_size(self) -> float:
        r"""The accepted step size, ``fraction`` times ``full_step_size``; 0.0 when no step was taken.

        It is the factor on :math:`x` where a step starts at the behaviour policy; later ones also return part of the
        way to it, see :func:`trust_region_step`.
        """
        return self.fraction * self.full_step_size

    @property
    def accepted(self) -> bool:
        """Whether the policy moved."""
        return self.outcome is StepOutcome.ACCEPTED

    @property
    def kl(self) -> float:
        """The mean KL divergence from the behaviour policy at the end, in nats."""
        return self.end.evaluation.kl

    @property
    def improvement(self) -> float:
        """By how much the step raised the objective."""
        return self.end.evaluation.objective - self.start.evaluation.objective if self.accepted else 0.0

    @property
    def expected_improvement(self) -> float:
        r"""The first-order prediction of the improvement, :math:`g^\top (\theta' - \theta)`."""
        return float(self.direction.gradient.dot(self.end.theta - self.start.theta)) if self.accepted else 0.0


def natural_gradient(problem: PolicyProblem, linearisation: Linearisation, solver: SolverSettings) -> NaturalGradient:
    r"""Solve :math:`(F + cI)\, x = g` for the search direction :math:`x` (arXiv:1502.05477, appendix C).

    :param problem: the problem; K-FAC is fitted to its rows.
    :param linearisation: the gradient and the Fisher products at the point where the step begins.
    :param solver: how to solve.
    """
    g, c = linearisation.gradient, solver.damping
    failure = _unusable(problem, g)
    if failure is not None:
        return NaturalGradient(g, Solution(torch.zeros_like(g), 0, 0.0, 0.0, SolveStatus.CONVERGED), c, failure=failure)
    approximation, tolerance = None, solver.tolerance
    if solver.preconditioner is not None:
        approximation = solver.preconditioner.fit(
            problem.policy_function,
            linearisation.theta,
            fisher_metric,
            damping=c,
            forward_pass=linearisation.forward_pass,
        )
        if approximation is None:  # the tolerance is meant for one
            tolerance = min(tolerance, UNAIDED_TOLERANCE)
    solution = conjugate_gradient(
        damped(linearisation.fisher, c),
        g,
        max_iterations=solver.iterations,
        tolerance=tolerance,
        preconditioner=approximation,
    )
    # A later direction of non-positive curvature leaves a usable solution from the earlier ones; the first does not.
    usable = math.isfinite(solution.curvature) and solution.curvature > 0.0
    failure = None if usable else StepOutcome.NON_POSITIVE_CURVATURE
    return NaturalGradient(g, solution, c, solver.preconditioner is not None, failure)


def trust_region_step(
    problem: PolicyProblem,
    start: Point,
    direction: NaturalGradient,
    *,
    max_kl: float,
    backtrack_coeff: float,
    max_backtracks: int,
    full_budget: bool = False,
) -> PolicyStep:
    r"""Take one TRPO step (arXiv:1502.05477, appendix C).

    The full step leads to :math:`\theta_{old} + \alpha x`, :math:`\alpha = \sqrt{2\delta / x^\top (F + cI) x}`, the
    optimum of the linear model of the surrogate within the quadratic model of the trust region around the behaviour
    policy. From :math:`\theta_{old}` it is the paper's step; from a later point it is the next step of sequential
    quadratic programming on the same problem, so that repeated steps share one KL budget.

    :param problem: surrogate and KL divergence over the rollout.
    :param start: where to start, within the trust region.
    :param direction: :math:`x`, from the problem's linearisation there.
    :param max_kl: the bound :math:`\delta`, in nats.
    :param backtrack_coeff: the factor between candidates, in ``(0, 1)``.
    :param max_backtracks: the number of candidates, >= 1.
    :param full_budget: whether the quadratic model leaves the damping out: :math:`x^\top F x` instead of
        :math:`x^\top (F + cI) x`.
    """
    start = start.without_graph()
    if direction.failure is not None:
        return PolicyStep(start, start, direction.failure, direction)
    x = direction.solution.x
    alpha = full_step_size(max_kl, _undamped_curvature(direction) if full_budget else direction.solution.curvature)
    full_step = (problem.theta_old - start.theta) + alpha * x  # the first term is 0 in the first step
    search = backtracking_line_search(
        lambda fraction: problem.evaluate(start.theta + fraction * full_step),
        start.evaluation,
        max_kl=max_kl,
        backtrack_coeff=backtrack_coeff,
        max_backtracks=max_backtracks,
        aim_at_bound=direction.preconditioned,
    )
    if search.outcome is not StepOutcome.ACCEPTED:
        return PolicyStep(start, start, search.outcome, direction, backtracks=search.backtracks)
    return PolicyStep(
        start,
        Point(start.theta + search.fraction * full_step, search.evaluation),
        StepOutcome.ACCEPTED,
        direction,
        full_step_size=alpha,
        fraction=search.fraction,
        backtracks=search.backtracks,
    )


def fixed_step(problem: PolicyProblem, start: Point, direction: NaturalGradient, *, factor: float) -> PolicyStep:
    r"""Take one natural policy gradient step of fixed size: :math:`\theta' = \theta + \eta (F + cI)^{-1} g`.

    Kakade 2001, A Natural Policy Gradient, section 2. There is no line search; only a candidate whose surrogate
    or KL divergence is not finite is turned down.

    :param problem: surrogate and KL divergence over the rollout.
    :param start: where to start.
    :param direction: :math:`x`, from the problem's linearisation there.
    :param factor: :math:`\eta` > 0.
    """
    start = start.without_graph()
    if direction.failure is not None:
        return PolicyStep(start, start, direction.failure, direction)
    theta = start.theta + factor * direction.solution.x
    evaluation = problem.evaluate(theta)
    if not evaluation.is_finite:
        return PolicyStep(start, start, StepOutcome.NON_FINITE_CANDIDATE, direction)
    return PolicyStep(start, Point(theta, evaluation), StepOutcome.ACCEPTED, direction, factor, fraction=1.0)


def _unusable(problem: PolicyProblem, gradient: Tensor) -> StepOutcome | None:
    """Return why there is no direction to look for, None where there is one."""
    norm = stable_norm(gradient)
    if not math.isfinite(norm):
        return StepOutcome.NON_FINITE_GRADIENT
    if problem.advantages_are_constant:
        return StepOutcome.CONSTANT_ADVANTAGES
    return StepOutcome.ZERO_GRADIENT if norm == 0.0 else None


def _undamped_curvature(direction: NaturalGradient) -> float:
    r"""Return :math:`x^\top F x = x^\top (F + cI) x - c \|x\|^2`, at least a tenth of :math:`x^\top (F + cI) x`.

    Where damping is nearly all of the curvature, the quadratic model without it says nothing of the divergence.
    """
    curvature, norm = direction.solution.curvature, stable_norm(direction.solution.x)
    return max(curvature - direction.damping * norm * norm, 0.1 * curvature)
