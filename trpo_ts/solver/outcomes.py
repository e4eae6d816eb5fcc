"""Why a policy step was taken or not."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["StepOutcome"]


class StepOutcome(IntEnum):
    """The result of a policy step; its number is ``outcome`` in the training stats."""

    ACCEPTED = 0
    CONSTANT_ADVANTAGES = 1
    ZERO_GRADIENT = 2
    NON_FINITE_GRADIENT = 3
    NON_POSITIVE_CURVATURE = 4
    KL_ABOVE_BOUND = 5
    NO_IMPROVEMENT = 6
    NON_FINITE_CANDIDATE = 7

    @property
    def advice(self) -> str:
        """What it means and what you can do about it."""
        return _ADVICE[self]


_ADVICE = {
    StepOutcome.ACCEPTED: "the policy moved",
    StepOutcome.CONSTANT_ADVANTAGES: (
        "the advantages prefer no action: they are zero, constant, or those of a single transition; collect more, or "
        "look for a reward that never changes"
    ),
    StepOutcome.ZERO_GRADIENT: "the policy gradient is zero: the objective does not depend on the trainable parameters",
    StepOutcome.NON_FINITE_GRADIENT: "the policy gradient is not finite; look for exploding network outputs",
    StepOutcome.NON_POSITIVE_CURVATURE: (
        "the Fisher products gave no usable direction, or were not finite; raise cg_damping, look for exploding "
        "network outputs"
    ),
    StepOutcome.KL_ABOVE_BOUND: (
        "the shortest candidate of the line search had a KL divergence above max_kl; raise cg_damping or max_backtracks"
    ),
    StepOutcome.NO_IMPROVEMENT: (
        "the shortest candidate kept the KL bound and did not improve the surrogate; expected near an optimum, else "
        "raise max_backtracks or collect more"
    ),
    StepOutcome.NON_FINITE_CANDIDATE: (
        "the surrogate or the KL divergence of the shortest candidate was not finite; lower max_kl, or bound the "
        "network's outputs"
    ),
}
