"""Policies with a memory, for environments whose single observations do not tell their state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch
from tianshou.utils.net.common import ActionReprNet, ModuleWithVectorOutput
from torch import Tensor, nn

from trpo_ts.choices import RecurrentCell
from trpo_ts.networks import make_trunk
from trpo_ts.networks.entries import entry
from trpo_ts.policies.factory import make_policy
from trpo_ts.policies.masked import make_unmasked_trunk
from trpo_ts.policies.policy_description import described
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk, make_recurrent_trunk
from trpo_ts.validation.argument_names import NETWORK_NAMES, explained

__all__ = ["RecurrentActor", "make_recurrent_policy"]

FEATURES = "features of the trunk"
"""The key under which a head that reads a mask finds the features."""


class RecurrentActor(ActionReprNet[dict[str, Tensor]]):
    """A recurrent trunk, and any actor after it that takes the trunk's features for observations.

    :param trunk: the encoder and the cell.
    :param head: an actor without memory for observations ``(n, hidden_size)``; with a mask, for a ``Batch`` of these
        under :data:`FEATURES` and the mask.
    :param mask_key: the key of the observations' mask, which the head gets as it is; None where there is none.
    """

    def __init__(self, trunk: RecurrentTrunk, head: nn.Module, mask_key: str | None = None) -> None:
        super().__init__()
        self.trunk, self.head, self.mask_key = trunk, head, mask_key

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Any, dict[str, Tensor] | None]:
        """Return the head's output and the state to hand back; see :meth:`RecurrentTrunk.forward`."""
        features, state = self.trunk(obs, state)
        if self.mask_key is not None:
            features = Batch({FEATURES: features, self.mask_key: entry(obs, self.mask_key)})
        output, _ = self.head(features, state=None, info=info)
        return output, state


@explained(NETWORK_NAMES)
@described
def make_recurrent_policy(
    observation_space: gym.Space[object],
    action_space: gym.Space[object],
    *,
    cell: RecurrentCell = "gru",
    hidden_size: int = 64,
    encoder_sizes: Sequence[int] = (64,),
    hidden_sizes: Sequence[int] = (64,),
    activation: type[nn.Module] = nn.Tanh,
    mask_key: str | None = None,
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
    :param mask_key: the key of a Dict observation that holds the mask of the valid categories; see :func:`make_policy`.
        Nothing of it is remembered.
    :param options: further ones of :func:`make_policy`, for the action distribution.
    :raises ValueError: for spaces that are not supported, with what to do about it.
    """
    make_encoder: Callable[..., ModuleWithVectorOutput] = make_trunk
    seen: gym.Space[Any] = spaces.Box(-np.inf, np.inf, (hidden_size,), np.float32)
    if mask_key is not None:
        make_encoder = partial(_make_unmasked_encoder, mask_key)
    trunk = make_recurrent_trunk(
        observation_space, cell, hidden_size, encoder_sizes, activation, make_encoder=make_encoder
    )
    if mask_key is not None:
        seen = spaces.Dict({FEATURES: seen, mask_key: cast(spaces.Dict, observation_space)[mask_key]})
    policy = make_policy(
        seen, action_space, hidden_sizes=hidden_sizes, activation=activation, mask_key=mask_key, **options
    )
    policy.actor = RecurrentActor(trunk, policy.actor, mask_key)
    policy.observation_space = observation_space
    return policy


def _make_unmasked_encoder(
    mask_key: str, space: gym.Space[object], sizes: Sequence[int], activation: type[nn.Module]
) -> ModuleWithVectorOutput:
    return make_unmasked_trunk(space, mask_key, sizes, activation)
