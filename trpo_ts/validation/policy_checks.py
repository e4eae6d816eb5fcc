"""What an update needs of the policy, checked on the rollout before anything is changed."""

from __future__ import annotations

from typing import Any, cast

import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch.distributions import Distribution

from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.rows import row_slices
from trpo_ts.rollout import Transitions
from trpo_ts.runtime import evaluation_mode
from trpo_ts.solver.surrogate import entropy_terms
from trpo_ts.validation.distribution_checks import check_divergence, check_joint, check_possible, is_discrete

__all__ = ["PolicyCheck"]


class PolicyCheck:
    """Checks that a policy's distributions are such as an update can use.

    Of what kind they are is checked once for a policy; whether they admit the actions, in every rollout.
    """

    def __init__(self) -> None:
        self._checked: tuple[Any, ...] = ()
        self._discrete = False

    def __call__(
        self,
        policy: ProbabilisticActorPolicy,
        transitions: Transitions,
        *,
        ent_coef: float,
        micro_batch_size: int | None,
    ) -> None:
        """Check a policy on a rollout.

        :raises ValueError: naming what cannot be used, and the fix.
        """
        network = ActionDistribution(policy)
        shape = tuple(transitions.act.shape[1:])
        checked = (policy.actor, policy.dist_fn, shape, ent_coef)
        if self._checked == checked and not self._discrete:
            return
        with torch.no_grad(), evaluation_mode(policy):
            if self._checked != checked:
                self._discrete = _check_kind(network, transitions, shape, ent_coef)
                self._checked = checked
            if self._discrete:
                for rows in row_slices(len(transitions.act), micro_batch_size):
                    check_possible(network(*transitions.policy_inputs(rows)), transitions.act[rows], rows.start)


_LITTLE = 1e-4
"""A change of the parameters by which a distribution is told from the one after a step."""


def _check_kind(
    network: ActionDistribution, transitions: Transitions, action_shape: tuple[int, ...], ent_coef: float
) -> bool:
    """Check the distributions of the first rows, and return whether they are discrete."""
    rows = slice(0, min(2, len(transitions.act)))
    parameters = FlatParameters(network)
    with torch.enable_grad():
        theta = parameters.read()
        distribution = cast(Distribution, parameters.call(theta, *transitions.policy_inputs(rows)))
        check_joint(distribution, rows.stop, action_shape)
        parameters.check_call(distribution.log_prob(transitions.act[rows]), "policy")
    moved = cast(Distribution, parameters.call(theta + _LITTLE * (1.0 + theta.abs()), *transitions.policy_inputs(rows)))
    check_divergence(distribution, moved)
    if ent_coef and entropy_terms(distribution) is None:
        raise ValueError(
            f"ent_coef must be 0 for a {type(distribution).__name__}, got {ent_coef}: "
            "the distribution has no entropy in closed form"
        )
    return is_discrete(distribution)
