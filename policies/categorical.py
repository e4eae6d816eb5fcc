"""Categorical policies for discrete actions."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.utils.net.discrete import DiscreteActor
from torch import nn

from trpo_ts.networks import initialise_orthogonal, make_trunk

__all__ = ["make_categorical_policy"]


def make_categorical_policy(
    observation_space: gym.Space[object],
    action_space: spaces.Discrete,
    *,
    hidden_sizes: Sequence[int],
    activation: type[nn.Module],
    deterministic_eval: bool,
) -> DiscreteActorPolicy:
    """Return a policy whose network gives the logits of the actions. See :func:`trpo_ts.policies.make_policy`.

    :raises ValueError: for a space that does not start at 0, since actions are the network's output indices.
    """
    if action_space.start != 0:
        raise ValueError(
            f"action_space must start at 0, got {action_space}; shift it with gymnasium.wrappers.TransformAction"
        )
    actor = DiscreteActor(
        preprocess_net=make_trunk(observation_space, hidden_sizes, activation),
        action_shape=np.int64(action_space.n),
        softmax_output=False,  # logits keep their gradient where probabilities vanish
    )
    initialise_orthogonal(actor, actor.last, head_gain=0.01)
    return DiscreteActorPolicy(
        actor=actor,
        deterministic_eval=deterministic_eval,
        action_space=action_space,
        observation_space=observation_space,
    )
