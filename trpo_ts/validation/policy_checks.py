"""What an update needs of Tianshou's policy, checked on the rollout before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import Tensor

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.runtime import callers_autocast, evaluation_mode, preserved_generators
from trpo_ts.solver.surrogate import entropy_terms
from trpo_ts.validation.autocast_check import check_autocast
from trpo_ts.validation.distribution_checks import is_discrete
from trpo_ts.validation.network_view import NetworkView
from trpo_ts.validation.policy_function_checks import (
    check_actions_possible,
    check_distribution,
    draws_random_numbers,
)
from trpo_ts.validation.requires_grad_checks import constant_requires_grad

__all__ = ["PolicyCheck"]


class PolicyCheck:
    """Checks that a policy's distributions are such as an update can use.

    The kind of distribution is checked once for a policy, and again where its modules have changed; whether it admits
    the actions, in every rollout; whether the caller's autocast changes it, in every update within one.
    """

    def __init__(self) -> None:
        self._checked: tuple[Any, ...] = ()
        self._discrete = False
        self.draws = False
        """Whether the policy draws random numbers where it is evaluated."""

    def __call__(
        self,
        policy: ProbabilisticActorPolicy,
        function_of: Callable[[], RowFunction],
        act: Tensor,
        *,
        ent_coef: float,
    ) -> None:
        """Check a policy on a rollout.

        :param policy: the policy.
        :param function_of: makes the policy a function of its parameters and the rollout's rows; called where it is
            needed, which is not in every update.
        :param act: the rollout's actions.
        :param ent_coef: the weight of the entropy.
        :raises ValueError: naming what cannot be used, and the fix.
        """
        checked = (policy.dist_fn, tuple(act.shape[1:]), ent_coef, NetworkView(policy))
        if self._checked == checked and not self._discrete and not callers_autocast():
            return
        function = function_of()
        with evaluation_mode(policy), preserved_generators():
            if self._checked != checked:
                with constant_requires_grad("policy", policy):
                    distribution = check_distribution(function, act)
                if ent_coef and entropy_terms(distribution) is None:
                    raise ValueError(
                        f"ent_coef must be 0 for a {type(distribution).__name__}, got {ent_coef}: "
                        "the distribution has no entropy in closed form"
                    )
                self._discrete = is_discrete(distribution)
                self.draws = draws_random_numbers(function)
                self._checked = checked
            if callers_autocast():
                check_autocast(function, act)
            if self._discrete:
                check_actions_possible(function, act)
