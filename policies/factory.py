"""One call that builds a sound policy for an environment's spaces."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import nn

from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.networks import make_trunk
from trpo_ts.policies.categorical import make_categorical_policy
from trpo_ts.policies.flat_action import make_flat_action_policy
from trpo_ts.policies.gaussian import make_gaussian_policy
from trpo_ts.policies.masked import make_unmasked_trunk

__all__ = ["make_policy"]


def make_policy(
    observation_space: gym.Space[object],
    action_space: gym.Space[object],
    *,
    hidden_sizes: Sequence[int] = (64, 64),
    activation: type[nn.Module] = nn.Tanh,
    initial_std: float = 0.6,
    deterministic_eval: bool = True,
    mask_key: str | None = None,
) -> ProbabilisticActorPolicy:
    """Return a policy for the spaces: a diagonal Gaussian for a Box of actions, categorical ones for choices.

    For a choice of several components, and for mixed actions, all of them are independent given the observation.

    Weights are orthogonal, and the output layer starts small, so that all states begin at nearly the same
    distribution.

    >>> import gymnasium
    >>> env = gymnasium.make("Pendulum-v1")
    >>> policy = make_policy(env.observation_space, env.action_space)
    >>> sum(p.numel() for p in policy.parameters())
    4482

    :param observation_space: the environment's, a Box.
    :param action_space: the environment's: a Box of vectors, Discrete, MultiDiscrete, MultiBinary, or, for Dict and
        Tuple actions, the space of :class:`trpo_ts.envs.FlattenAction`.
    :param hidden_sizes: the widths of the hidden layers.
    :param activation: the activation after each hidden layer; smooth ones suit second-order steps.
    :param initial_std: the Gaussian's standard deviation at the start, in units of the scaled action range
        [-1, 1], > 0.
    :param deterministic_eval: whether the policy acts by its mode outside of training.
    :param mask_key: the key of a Dict observation that holds the mask of the valid categories, 0 for invalid, one
        number for each category of each component; they are never taken. None takes all of them.
    :raises ValueError: for spaces that are not supported, with what to do about it.
    """
    if isinstance(action_space, spaces.Box) and not isinstance(action_space, FlatAction):
        if mask_key is not None:
            raise ValueError(f"mask_key must be None for a Box of actions, got {mask_key!r}; a mask needs categories")
        return make_gaussian_policy(
            observation_space,
            action_space,
            hidden_sizes=hidden_sizes,
            activation=activation,
            initial_std=initial_std,
            deterministic_eval=deterministic_eval,
        )
    if isinstance(action_space, FlatAction | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        trunk: ModuleWithVectorOutput = (
            make_trunk(observation_space, hidden_sizes, activation)
            if mask_key is None
            else make_unmasked_trunk(observation_space, mask_key, hidden_sizes, activation)
        )
        if isinstance(action_space, FlatAction):
            return make_flat_action_policy(
                trunk,
                observation_space,
                action_space,
                mask_key=mask_key,
                initial_std=initial_std,
                deterministic_eval=deterministic_eval,
            )
        return make_categorical_policy(
            trunk, observation_space, action_space, mask_key=mask_key, deterministic_eval=deterministic_eval
        )
    raise ValueError(
        f"action_space must be a Box, Discrete, MultiDiscrete or MultiBinary, got {action_space}; "
        "for a Dict or Tuple of these wrap the environment with trpo_ts.envs.FlattenAction, for others build a "
        "ProbabilisticActorPolicy with a joint distribution yourself"
    )
