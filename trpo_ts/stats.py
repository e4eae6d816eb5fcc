"""The training stats of one update: Tianshou's fields, and what explains the policy step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tianshou.algorithm.modelfree import npg as tianshou_npg
from tianshou.algorithm.modelfree import trpo as tianshou_trpo
from tianshou.data import SequenceSummaryStats

from trpo_ts.solver.conjugate_gradient import stable_norm
from trpo_ts.solver.trust_region import PolicyStep

__all__ = ["NPGTrainingStats", "TRPOTrainingStats", "policy_step_fields", "summary"]


@dataclass(kw_only=True)
class NPGTrainingStats(tianshou_npg.NPGTrainingStats):
    """What an update did; every number is finite.

    Where ``repeat`` asks for several policy steps, improvements are summed over them, norms, iterations and
    residuals averaged. ``accepted`` and ``outcome`` describe the first step: later steps may find nothing more to
    gain within the KL budget.
    """

    actor_loss: SequenceSummaryStats
    """The negative objective after each policy step; the loss before it is 0 when advantages are normalised."""
    vf_loss: SequenceSummaryStats
    """The mean squared error that the critic's fit reports: at the last optimiser step of each minibatch by default."""
    kl: SequenceSummaryStats
    """Mean KL(behaviour || new) over the whole rollout after the update, in nats; 0.0 when no step was taken."""
    surrogate_improvement: float = 0.0
    """By how much the update raised the surrogate (with the entropy bonus, where ``ent_coef`` > 0)."""
    expected_improvement: float = 0.0
    """The first-order prediction of it; an improvement far below says the step outran the linear model."""
    entropy: float = 0.0
    """Mean entropy of the policy after the update, in nats; 0.0 where the distribution has none in closed form."""
    explained_variance: float = 0.0
    """1 - Var[returns - values] / Var[returns] before the critic's fit: 1 is perfect, 0 a constant, < 0 worse."""
    gradient_norm: float = 0.0
    """Euclidean norm of the policy gradient; 0.0 when it was not finite (see ``outcome``)."""
    cg_iterations: float = 0.0
    """Fisher products spent in conjugate gradient."""
    cg_residual: float = 0.0
    """Its relative residual at the end: at most ``cg_tolerance``, unless ``cg_iters`` ran out."""
    accepted: float = 0.0
    """1.0 when the update moved the policy, else 0.0."""
    outcome: int = 0
    """Code of the first policy step's outcome, see :class:`trpo_ts.solver.outcomes.StepOutcome`; 0 is accepted."""
    policy_std: float | None = None
    """Mean standard deviation of the actions; None for distributions without one."""
    reductions: int = 0
    """How often the ranks of a data-parallel training met in the update; 0 in a single process."""


@dataclass(kw_only=True)
class TRPOTrainingStats(NPGTrainingStats, tianshou_trpo.TRPOTrainingStats):
    """The stats of :class:`NPGTrainingStats` and those of the line search."""

    max_kl: float
    """The bound on :attr:`kl` in this update, in nats: the parameter, or where its schedule was."""
    step_size: SequenceSummaryStats
    """The factor on the search direction that was accepted; 0.0 when no step was taken."""
    step_fraction: float = 0.0
    """The accepted part of the full step, in ``[0, 1]``; the mean over the policy steps."""
    backtracks: int = 0
    """How often the line search shortened the accepted steps, or the rejected one when there was none."""


def policy_step_fields(steps: Sequence[PolicyStep]) -> dict[str, Any]:
    """Return the fields of :class:`NPGTrainingStats` that the policy steps of one update determine."""
    end = steps[-1].end.evaluation
    solutions = [step.direction.solution for step in steps]
    return {
        "actor_loss": summary([_finite(-step.end.evaluation.objective) for step in steps]),
        "kl": SequenceSummaryStats.from_single_value(_finite(steps[-1].kl)),
        "surrogate_improvement": sum(step.improvement for step in steps),
        "expected_improvement": _finite(sum(step.expected_improvement for step in steps)),
        "gradient_norm": _mean([_finite(stable_norm(step.direction.gradient)) for step in steps]),
        "cg_iterations": _mean([solution.iterations for solution in solutions]),
        "cg_residual": _mean([_finite(solution.relative_residual) for solution in solutions]),
        "accepted": float(steps[0].accepted),
        "entropy": end.entropy or 0.0,
        "policy_std": end.action_std,
        "outcome": int(steps[0].outcome),
    }


def summary(values: Sequence[float]) -> SequenceSummaryStats:
    """Return the summary of some numbers; that of a single one, the usual case, needs no arithmetic."""
    if len(values) == 1:
        return SequenceSummaryStats.from_single_value(values[0])
    return SequenceSummaryStats.from_sequence(values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _finite(value: float) -> float:
    # A single NaN would stay in the trainer's moving averages for good; the outcome says what happened.
    return value if value - value == 0.0 else 0.0
