r"""The backtracking line search: the longest candidate that keeps the KL bound and improves the surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from trpo_ts.solver.outcomes import StepOutcome

__all__ = ["Evaluation", "LineSearchResult", "backtracking_line_search"]


@dataclass(frozen=True)
class Evaluation:
    """What the policy achieves over the rollout at one point of parameter space.

    The search reads the first two; the training stats read all.

    :param objective: the surrogate, with the entropy bonus where there is one.
    :param kl: the mean KL divergence from the behaviour policy, in nats.
    :param entropy: the mean entropy of the policy, in nats; None where it has no closed form.
    :param action_std: the mean standard deviation of the actions; None where the distribution has none.
    """

    objective: float
    kl: float
    entropy: float | None = None
    action_std: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether both numbers are finite."""
        return math.isfinite(self.objective) and math.isfinite(self.kl)


@dataclass(frozen=True)
class LineSearchResult:
    """The accepted candidate, or why there is none.

    :param fraction: the accepted part of the full step, in ``(0, 1]``; 0.0 when every candidate was rejected.
    :param backtracks: how often the step was shortened before it was accepted or given up.
    :param evaluation: the accepted candidate's values, the start's when there is none.
    :param outcome: accepted, or the reason against the last candidate.
    """

    fraction: float
    backtracks: int
    evaluation: Evaluation
    outcome: StepOutcome


def backtracking_line_search(
    evaluate: Callable[[float], Evaluation],
    start: Evaluation,
    *,
    max_kl: float,
    backtrack_coeff: float,
    max_backtracks: int,
    aim_at_bound: bool = False,
) -> LineSearchResult:
    r"""Find the first of the fractions :math:`1, \kappa, \kappa^2, \dots` of a step that improves within the bound.

    A candidate is accepted when its objective exceeds ``start.objective`` and its KL divergence is at most
    ``max_kl``, both finite (arXiv:1502.05477, appendix C).

    :param evaluate: maps a fraction of the full step to what the policy achieves there.
    :param start: the values before the step.
    :param max_kl: the bound :math:`\delta` on the KL divergence, in nats.
    :param backtrack_coeff: :math:`\kappa` in ``(0, 1)``.
    :param max_backtracks: the number of candidates to try, >= 1.
    :param aim_at_bound: whether the candidate after the first one that exceeds ``max_kl`` is where the divergence is
        ``max_kl`` if it is quadratic in the step's length, :math:`\sqrt{\delta / D_{KL}}` of it. A full step that is
        close to exact often exceeds the bound by a percent; the factor :math:`\kappa = 0.8` would give up a third of
        it.
    """
    fraction, outcome = 1.0, StepOutcome.NO_IMPROVEMENT
    for backtracks in range(max_backtracks):
        candidate = evaluate(fraction)
        outcome = _verdict(candidate, start, max_kl)
        if outcome is StepOutcome.ACCEPTED:
            return LineSearchResult(fraction, backtracks, candidate, outcome)
        if aim_at_bound and outcome is StepOutcome.KL_ABOVE_BOUND:
            fraction *= _JUST_WITHIN * math.sqrt(max_kl / candidate.kl)
            aim_at_bound = False
        else:
            fraction *= backtrack_coeff
    return LineSearchResult(0.0, max_backtracks - 1, start, outcome)


_JUST_WITHIN = 0.999


def _verdict(candidate: Evaluation, start: Evaluation, max_kl: float) -> StepOutcome:
    if not candidate.is_finite:
        return StepOutcome.NON_FINITE_CANDIDATE
    if candidate.kl > max_kl:
        return StepOutcome.KL_ABOVE_BOUND
    if not candidate.objective > start.objective:  # nothing exceeds NaN
        return StepOutcome.NO_IMPROVEMENT
    return StepOutcome.ACCEPTED
