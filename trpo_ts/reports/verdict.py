"""A verdict in words: what trouble the records of a training show, and what to try.

Each check has its threshold beside it. docs/reports.md has them as a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trpo_ts.diagnostics.records import UpdateRecord
from trpo_ts.solver.outcomes import StepOutcome

__all__ = ["Finding", "Verdict", "judge"]

FEWEST_UPDATES = 10
"""Fewer updates are no ground for a verdict."""
RECENT_UPDATES = 20
"""What the line search does now is read from so many updates."""
MOST_REJECTED = 0.25
"""Share of recent updates without a step, from which on the line search fails."""
LEAST_KL_USED = 0.25
"""Share of ``max_kl`` that the median step of the later half shall use."""
WHOLE_STEP = 0.9
"""Median step fraction from which on the line search has not shortened the steps."""
LARGEST_FALL = 0.3
"""Share of its rise that a return may lose after its peak."""
NOISE = 4.0
"""A fall counts from so many standard errors on."""
LEAST_STD_LEFT = 0.1
"""Share of the first standard deviation that shall be left."""

Updates = Sequence[UpdateRecord]


@dataclass(frozen=True)
class Finding:
    """One trouble. Names of parameters are between backticks."""

    title: str
    """What is wrong, in a few words; the same for all runs that have it."""
    evidence: str
    """The numbers that say so."""
    advice: str
    """What to try."""


@dataclass(frozen=True)
class Verdict:
    """What the records of a training say."""

    findings: tuple[Finding, ...]
    """Troubles; none for a healthy training, and for one that is too short to tell."""
    judged: bool
    """Whether there were updates enough to tell."""


def judge(updates: Updates, max_kl: float | None = None) -> Verdict:
    """Look for trouble in the records of a training.

    :param updates: records of the training steps, in their order.
    :param max_kl: the bound on the KL divergence of the updates whose records do not say it, in nats; None leaves them
        out of the check of its use.
    """
    if len(updates) < FEWEST_UPDATES:
        return Verdict((), judged=False)
    found = [check(updates) for check in (_line_search, _explained_variance, _fall, _std)]
    found.insert(1, _kl_use(updates, max_kl))
    return Verdict(tuple(finding for finding in found if finding is not None), judged=True)


def _line_search(updates: Updates) -> Finding | None:
    recent = [update for update in updates[-RECENT_UPDATES:] if update.kl is not None]
    rejected = [update for update in recent if update.rejected]
    if len(recent) < FEWEST_UPDATES or len(rejected) < MOST_REJECTED * len(recent):
        return None
    outcomes = Counter(int(update.outcome) for update in rejected if update.outcome)
    (outcome, count), *_ = outcomes.most_common(1) or [(StepOutcome.KL_ABOVE_BOUND, 0)]
    often = "each time" if count == len(rejected) else f"{count} times"
    reason = f"; {often} {_REASONS[StepOutcome(outcome)]}" if count else ""
    return Finding(
        "The line search fails",
        f"{len(rejected)} of the last {len(recent)} updates left the policy as it was{reason}.",
        _LINE_SEARCH_ADVICE.get(StepOutcome(outcome), "Look at the rewards and at the outputs of the networks."),
    )


_REASONS = {
    StepOutcome.ACCEPTED: "later steps were rejected",
    StepOutcome.CONSTANT_ADVANTAGES: "all advantages were equal",
    StepOutcome.ZERO_GRADIENT: "the gradient was zero",
    StepOutcome.NON_FINITE_GRADIENT: "the gradient was not finite",
    StepOutcome.NON_POSITIVE_CURVATURE: "the Fisher products gave no direction",
    StepOutcome.KL_ABOVE_BOUND: "the shortest candidate was still beyond `max_kl`",
    StepOutcome.NO_IMPROVEMENT: "the shortest candidate did not raise the surrogate",
    StepOutcome.NON_FINITE_CANDIDATE: "the shortest candidate was not finite",
}

_LINE_SEARCH_ADVICE = {
    StepOutcome.CONSTANT_ADVANTAGES: "Check that rewards vary within a rollout; collect more with `segment`.",
    StepOutcome.ZERO_GRADIENT: "Look for frozen or unused parameters and dead activations; try `activation` tanh.",
    StepOutcome.NON_FINITE_GRADIENT: "Lower `lr` of the critic, or set `return_scaling` and `normalise_observations`.",
    StepOutcome.NON_POSITIVE_CURVATURE: "Raise `cg_damping`; look for exploding outputs of the policy.",
    StepOutcome.KL_ABOVE_BOUND: "Raise `cg_damping` or `max_backtracks`, or collect more with `segment`.",
    StepOutcome.NO_IMPROVEMENT: "Collect more with `segment`, raise `cg_iters`, or lower `max_kl`.",
    StepOutcome.NON_FINITE_CANDIDATE: "Lower `max_kl`, raise `cg_damping`, or set `normalise_observations`.",
}


def _kl_use(updates: Updates, max_kl: float | None) -> Finding | None:
    later = [update for update in updates[len(updates) // 2 :] if update.kl is not None and not update.rejected]
    bounds = [max_kl if update.max_kl is None else update.max_kl for update in later]
    shares = [(update.kl or 0.0) / bound for update, bound in zip(later, bounds, strict=True) if bound is not None]
    if len(shares) < FEWEST_UPDATES // 2:
        return None
    used = float(np.median(shares))
    if used >= LEAST_KL_USED:
        return None
    fractions = [update.step_fraction for update in later if update.step_fraction is not None]
    whole = not fractions or float(np.median(fractions)) >= WHOLE_STEP
    cause = "though steps are not shortened: damping takes the rest" if whole else "because the line search shortens it"
    advice = (
        "Set `full_budget`, or lower `cg_damping`."
        if whole
        else "Collect more with `segment`, or raise `cg_damping`, so that full steps are accepted."
    )
    bound = f" = {bounds[0]:g}" if len(set(bounds)) == 1 else ""
    evidence = f"The median step of the later half uses {used:.0%} of `max_kl`{bound}, {cause}."
    return Finding("The KL budget is not used", evidence, advice)


def _explained_variance(updates: Updates) -> Finding | None:
    later = _values(updates[len(updates) // 2 :], lambda update: update.explained_variance)
    if len(later) < FEWEST_UPDATES // 2 or np.median(later) >= 0.0:
        return None
    return Finding(
        "The explained variance is below zero",
        f"Its median over the later half is {np.median(later):.2f}: the critic predicts worse than a constant.",
        "Try `critic_fit` GaussNewtonFit(steps=2), or more `optim_critic_iters` with another `lr`; set "
        "`return_scaling` or `normalise_observations`.",
    )


def _fall(updates: Updates) -> Finding | None:
    ended = [update for update in updates if update.episode_returns]
    returns = _values(ended, lambda update: update.return_mean)
    width = max(5, len(returns) // 10)
    if len(returns) < 2 * width:
        return None
    smooth = np.convolve(returns, np.full(width, 1.0 / width), mode="valid")
    peak = int(smooth.argmax())
    fall, rise = smooth[peak] - smooth[-1], smooth[peak] - smooth[: peak + 1].min()
    # Differences of neighbours hold the noise of two updates and hardly any trend; so does the fall, of two means.
    error = float(np.std(np.diff(returns))) / np.sqrt(width)
    if fall <= LARGEST_FALL * rise or fall <= NOISE * error:
        return None
    at = f"{ended[peak + width - 1].env_steps:,} environment steps"
    return Finding(
        "The return falls after a peak",
        f"The mean of {width} updates was {smooth[peak]:,.4g} at {at}, and is {smooth[-1]:,.4g} now.",
        "Lower `max_kl`, or collect more with `segment`; `best.ckpt` holds the learner of the best test.",
    )


def _std(updates: Updates) -> Finding | None:
    values = _values(updates, lambda update: update.policy_std)
    if len(values) < FEWEST_UPDATES:
        return None
    first, last = float(values[:5].mean()), float(values[-5:].mean())
    if last >= LEAST_STD_LEFT * first:
        return None
    return Finding(
        "The standard deviation vanishes",
        f"It fell from {first:.3g} to {last:.3g} action units; exploration has nearly ended.",
        "If the return is not yet good: lower `max_kl`, collect more with `segment`, or raise `ent_coef`.",
    )


def _values(updates: Updates, value: Callable[[UpdateRecord], float | None]) -> NDArray[np.float64]:
    return np.array([v for v in map(value, updates) if v is not None], dtype=np.float64)
