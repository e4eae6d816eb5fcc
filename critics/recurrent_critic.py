"""Critics with a memory: values of observations along with what came before them in the episode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.choices import RecurrentCell
from trpo_ts.critics.value_network import make_critic
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk, make_recurrent_trunk
from trpo_ts.recurrent.sequences import SequencedObs
from trpo_ts.validation.argument_names import NETWORK_NAMES, explained

__all__ = ["RecurrentCritic", "make_recurrent_critic"]


class RecurrentCritic(nn.Module):
    r"""A network :math:`(s_1, \dots, s_t) \mapsto V` over the observations of an episode so far.

    While the policy collects, nobody runs the critic; an update runs it along the rollout. It remembers its state after
    the last row of each unfinished episode, and starts from it where the next rollout continues that episode.

    :param trunk: the encoder and the cell.
    :param head: maps the trunk's features ``(n, hidden_size)`` to values ``(n, 1)``.
    """

    def __init__(self, trunk: RecurrentTrunk, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self._kept: dict[str, Tensor] = {}

    def forward(self, obs: Any) -> Tensor:
        """Return values ``(n, 1)``.

        :param obs: :class:`trpo_ts.recurrent.sequences.SequencedObs`, or first observations of episodes.
        """
        if isinstance(obs, SequencedObs):
            features, _ = self.trunk(obs.obs, obs.sequences)
        else:
            features, _ = self.trunk(obs)
        values: Tensor = self.head(features)
        return values

    def keep(self, env: np.ndarray, obs_next: Any, state: Tensor) -> None:
        """Keep the states after the last rows of unfinished episodes; those kept before are dropped.

        :param env: the environments' numbers, shape ``(E,)``.
        :param obs_next: their observations after those rows.
        :param state: the states after those rows, shape ``(E, S)``.
        """
        self._kept = {"env": torch.as_tensor(env), "obs": _numbers(obs_next), "state": state.detach().clone()}

    def kept(self, env: np.ndarray, obs: Any) -> Tensor:
        """Return the states from which a rollout's first rows start: those kept, and zero where an episode begins.

        An episode continues where the environment's observation is, bit for bit, the one that was reached.

        :param env: the environments' numbers, shape ``(E,)``.
        :param obs: their first observations.
        """
        parameter = next(self.trunk.parameters())
        states = torch.zeros(len(env), self.trunk.cell.state_size, dtype=parameter.dtype, device=parameter.device)
        if not self._kept:
            return states
        numbers = _numbers(obs)
        places = {number: place for place, number in enumerate(self._kept["env"].tolist())}
        for i, number in enumerate(env.tolist()):
            if number in places and torch.equal(numbers[i], self._kept["obs"][places[number]].to(numbers)):
                states[i] = self._kept["state"][places[number]].to(states)
        return states

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the kept states as part of ``state_dict()``."""
        return self._kept

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Set what :meth:`get_extra_state` returned."""
        self._kept = dict(state)


@explained(NETWORK_NAMES)
def make_recurrent_critic(
    observation_space: gym.Space[object],
    *,
    cell: RecurrentCell = "gru",
    hidden_size: int = 64,
    encoder_sizes: Sequence[int] = (64,),
    hidden_sizes: Sequence[int] = (64,),
    activation: type[nn.Module] = nn.Tanh,
) -> RecurrentCritic:
    """Return a critic with a memory: encoder, recurrent cell, hidden layers, value.

    :param observation_space: the environment's; see :func:`trpo_ts.critics.make_critic`.
    :param cell: "gru" or "lstm".
    :param hidden_size: the width of the cell.
    :param encoder_sizes: the widths of the layers before the cell.
    :param hidden_sizes: the widths of the layers after the cell.
    :param activation: the activation after each of these layers.
    :raises ValueError: for a space that is not supported, with what to do about it.
    """
    trunk = make_recurrent_trunk(observation_space, cell, hidden_size, encoder_sizes, activation)
    features = spaces.Box(-np.inf, np.inf, (hidden_size,), np.float32)
    return RecurrentCritic(trunk, make_critic(features, hidden_sizes=hidden_sizes, activation=activation))


def _numbers(obs: Any) -> Tensor:
    """Return arrays, tensors or nested batches of observations as one vector of numbers each, shape ``(n, F)``."""
    if isinstance(obs, Batch):
        return torch.cat([_numbers(item) for _, item in sorted(obs.items())], dim=1)
    numbers = torch.as_tensor(obs)
    return numbers.reshape(len(numbers), math.prod(numbers.shape[1:])).double()
