"""What a step needs of a policy as a function of its parameters and rows, checked before anything is changed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.validation.distribution_checks import check_divergence, check_joint, check_possible, is_discrete

__all__ = ["check_actions_possible", "check_distribution"]

_LITTLE = 1e-4
"""A change of the parameters after which a distribution differs, so that its divergence can be tried."""


def check_distribution(policy: RowFunction, act: Tensor) -> Distribution:
    """Check that the policy's distributions are such as a step can use, and return those of the first rows.

    :param policy: maps parameters and rows to action distributions.
    :param act: the actions of all rows, shape ``(N, ...)``.
    :raises ValueError: for what is no distribution, one that is not joint over whole actions or has no KL divergence,
        or a parameter that is reached other than as an attribute of its module; with the fix.
    """
    theta = policy.parameters.read()
    rows = slice(0, min(2, len(act)))
    with torch.enable_grad():
        distribution = policy(theta, rows)
        if not isinstance(distribution, Distribution):
            raise ValueError(
                f"policy must return a torch.distributions.Distribution, got {type(distribution).__name__}"
            )
        check_joint(distribution, rows.stop, act.shape[1:])
        policy.parameters.check_call(distribution.log_prob(act[rows]), "policy")
    with torch.no_grad():
        moved = theta + _LITTLE * (1.0 + theta.abs())
        check_divergence(distribution, cast(Distribution, policy(moved, rows)))
    return distribution


def check_actions_possible(policy: RowFunction, act: Tensor) -> None:
    """Check that no discrete action has probability 0 under the policy.

    :raises ValueError: naming the first such action and its row.
    """
    theta = policy.parameters.read()
    with torch.no_grad():
        for rows in policy.parts:
            distribution = policy(theta, rows)
            if is_discrete(distribution):
                check_possible(distribution, act[rows], rows.start)
