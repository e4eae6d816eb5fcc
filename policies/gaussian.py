"""Gaussian policies for continuous actions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.continuous import ContinuousActorProbabilistic
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from trpo_ts.checks import check_real
from trpo_ts.networks import initialise_orthogonal, make_trunk

__all__ = ["diagonal_gaussian", "make_gaussian_policy"]


def diagonal_gaussian(loc_scale: tuple[Tensor, Tensor]) -> Independent[Normal]:
    r"""Return :math:`\mathcal N(\mu, \mathrm{diag}(\sigma^2))` as one distribution over whole actions.

    :param loc_scale: :math:`\mu` and :math:`\sigma`, each of shape ``(N, A)``.
    """
    return Independent(Normal(*loc_scale), 1)


def make_gaussian_policy(
    observation_space: gym.Space[object],
    action_space: spaces.Box,
    *,
    hidden_sizes: Sequence[int],
    activation: type[nn.Module],
    initial_std: float,
    deterministic_eval: bool,
) -> ProbabilisticActorPolicy:
    """Return a policy whose mean is a network and whose standard deviation is a free parameter per action.

    Actions are in [-1, 1], clipped and scaled to the environment's bounds, where the bounds are finite; where
    there are none, they are passed on as they are. See :func:`trpo_ts.policies.make_policy`.

    :raises ValueError: for bounds on one side only, integer actions, or actions that are no vector.
    """
    check_real("initial_std", initial_std, 0.0, low_open=True)
    bounded = _is_bounded(action_space)
    actor = ContinuousActorProbabilistic(
        preprocess_net=make_trunk(observation_space, hidden_sizes, activation),
        action_shape=action_space.shape,
        unbounded=True,
    )
    initialise_orthogonal(actor, actor.mu, head_gain=0.01)
    nn.init.constant_(actor.sigma_param, math.log(initial_std))
    with warnings.catch_warnings():
        # Tianshou takes max_action = 1 for a bounded network; with unbounded=True nothing bounds it.
        warnings.filterwarnings("ignore", message="action_scaling and action_bound_method are only intended")
        return ProbabilisticActorPolicy(
            actor=actor,
            dist_fn=diagonal_gaussian,
            deterministic_eval=deterministic_eval,
            action_space=action_space,
            observation_space=observation_space,
            action_scaling=bounded,
            # Tianshou clips to [-1, 1] also where it does not scale.
            action_bound_method="clip" if bounded else None,
        )


def _is_bounded(space: spaces.Box) -> bool:
    if len(space.shape) != 1 or space.shape[0] == 0 or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(
            f"action_space must be a Box of floating-point vectors, got {space}; "
            "flatten the action with an action wrapper"
        )
    bounds = np.stack([space.bounded_below, space.bounded_above])
    if bounds.all() or not bounds.any():
        with np.errstate(over="ignore"):  # bounds at the end of the floating range are none
            return bool(bounds.all() and np.isfinite(space.high - space.low).all())
    raise ValueError(
        f"action_space must be bounded on both sides or on none, got {space}; "
        "use an action wrapper that sets finite bounds"
    )
