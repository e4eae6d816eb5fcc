"""Categorical policies for discrete actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.utils.net.common import ModuleWithVectorOutput

from trpo_ts.networks import LinearActor

__all__ = ["make_categorical_policy"]


def make_categorical_policy(
    trunk: ModuleWithVectorOutput,
    observation_space: gym.Space[Any],
    action_space: spaces.Discrete,
    *,
    deterministic_eval: bool,
) -> DiscreteActorPolicy:
    """Return a policy whose network gives the logits of the actions. See :func:`trpo_ts.policies.make_policy`.

    :raises ValueError: for a space that does not start at 0, since actions are the network's output indices.
    """
    if action_space.start != 0:
        raise ValueError(
            f"action_space must start at 0, got {action_space}; shift it with gymnasium.wrappers.TransformAction"
        )
    return DiscreteActorPolicy(
        # Logits keep their gradient where probabilities vanish.
        actor=LinearActor(trunk, int(action_space.n)),
        deterministic_eval=deterministic_eval,
        action_space=action_space,
        observation_space=observation_space,
    )
