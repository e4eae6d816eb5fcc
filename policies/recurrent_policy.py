"""Policies with a memory, for environments whose single observations do not tell their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import ActionReprNet
from torch import Tensor, nn

from trpo_ts.policies.factory import make_policy
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk, make_recurrent_trunk

__all__ = ["RecurrentActor", "make_recurrent_policy"]


class RecurrentActor(ActionReprNet[dict[str, Tensor]]):
    """A recurrent trunk, and any actor after it that takes the trunk's features for observations.

    :param trunk: the encoder and the cell.
    :param head: an actor without memory for observations ``(n, hidden_size)``.
    """

    def __init__(self, trunk: RecurrentTrunk, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Any, dict[str, Tensor] | None]:
        """Return the head's output and the state to hand back; see :meth:`RecurrentTrunk.forward`."""
        features, state = self.trunk(obs, state)
        output, _ = self.head(features, state=None, info=info)
        return output, state


def make_recurrent_policy(
    observation_space: gym.Space[object],
    action_space: gym.Space[object],
    *,
    cell: str = "gru",
    hidden_size: int = 64,
    encoder_sizes: Sequence[int] = (64,),
    hidden_sizes: Sequence[int] = (64,),
    activation: type[nn.Module] = nn.Tanh,
    **options: Any,
) -> ProbabilisticActorPolicy:
    """Return a policy with a memory: encoder, recurrent cell, hidden layers, action distribution.

    The collector carries its state from step to step, and resets it where an episode ends. Each row of the buffer holds
    the state before and after it, so that an update replays the very sequences that were acted.

    >>> import gymnasium
    >>> env = gymnasium.make("Pendulum-v1")
    >>> policy = make_recurrent_policy(env.observation_space, env.action_space, cell="lstm")
    >>> policy.actor.trunk.cell.state_size
    128

    :param observation_space: the environment's; see :func:`make_policy`.
    :param action_space: the environment's; see :func:`make_policy`.
    :param cell: "gru" or "lstm".
    :param hidden_size: the width of the cell.
    :param encoder_sizes: the widths of the layers before the cell.
    :param hidden_sizes: the widths of the layers after the cell.
    :param activation: the activation after each of these layers.
    :param options: further ones of :func:`make_policy`, for the action distribution.
    :raises ValueError: for spaces that are not supported, with what to do about it.
    """
    trunk = make_recurrent_trunk(observation_space, cell, hidden_size, encoder_sizes, activation)
    features = spaces.Box(-np.inf, np.inf, (hidden_size,), np.float32)
    policy = make_policy(features, action_space, hidden_sizes=hidden_sizes, activation=activation, **options)
    policy.actor = RecurrentActor(trunk, policy.actor)
    policy.observation_space = observation_space
    return policy
