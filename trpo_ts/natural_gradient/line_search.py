r"""The length of a trust-region step, and the backtracking search that makes it keep its promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Evaluation", "LineSearchResult", "Rejection", "backtracking_line_search", "step_size"]


@dataclass(frozen=True)
class Evaluation:
    """What the policy achieves over the rollout at one point of parameter space.

    The search reads the first two; the others ride along for the training stats.

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


class Rejection(Enum):
    """Why the last candidate was turned down."""

    NON_FINITE = "the objective or the KL divergence was not finite"
    KL = "the KL divergence exceeded max_kl"
    NO_IMPROVEMENT = "the objective did not improve"


@dataclass(frozen=True)
class LineSearchResult:
    """The accepted candidate, or why there is none.

    :param fraction: the accepted part of the full step, in ``(0, 1]``; 0.0 when every candidate was rejected.
    :param backtracks: how often the step was shortened before it was accepted or given up.
    :param evaluation: the accepted candidate's values, the start's when there is none.
    :param rejection: the reason against the last candidate, None when one was accepted.
    """

    fraction: float
    backtracks: int
    evaluation: Evaluation
    rejection: Rejection | None


def step_size(max_kl: float, curvature: float) -> float:
    r"""Return :math:`\sqrt{2\delta / x^\top A x}`, the length at which the quadratic model of the KL is :math:`\delta`.

    arXiv:1502.05477, appendix C. ``curvature`` is :math:`x^\top A x > 0`.
    """
    return math.sqrt(2.0 * max_kl / curvature)


def backtracking_line_search(
    evaluate: Callable[[float], Evaluation],
    start: Evaluation,
    *,
    max_kl: float,
    backtrack_coeff: float,
    max_backtracks: int,
) -> LineSearchResult:
    r"""Find the first of the fractions :math:`1, c, c^2, \dots` that improves the objective within the trust region.

    A candidate is accepted when its objective exceeds ``start.objective`` and its KL divergence is at most
    ``max_kl``, both finite (arXiv:1502.05477, appendix C).

    :param evaluate: maps a fraction of the full step to what the policy achieves there.
    :param start: the values before the step.
    :param max_kl: the bound :math:`\delta` on the KL divergence, in nats.
    :param backtrack_coeff: :math:`c` in ``(0, 1)``.
    :param max_backtracks: the number of candidates to try, >= 1.
    """
    fraction, rejection = 1.0, None
    for backtracks in range(max_backtracks):
        candidate = evaluate(fraction)
        rejection = _rejection(candidate, start, max_kl)
        if rejection is None:
            return LineSearchResult(fraction, backtracks, candidate, None)
        fraction *= backtrack_coeff
    return LineSearchResult(0.0, max_backtracks - 1, start, rejection)


def _rejection(candidate: Evaluation, start: Evaluation, max_kl: float) -> Rejection | None:
    if not candidate.is_finite:
        return Rejection.NON_FINITE
    if candidate.kl > max_kl:
        return Rejection.KL
    if not candidate.objective > start.objective:  # nothing exceeds NaN
        return Rejection.NO_IMPROVEMENT
    return None
