"""One call that builds a sound critic for an environment's observations."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
from tianshou.utils.net.continuous import ContinuousCritic
from torch import nn

from trpo_ts.networks import initialise_orthogonal, make_trunk

__all__ = ["make_critic"]


def make_critic(
    observation_space: gym.Space[object],
    *,
    hidden_sizes: Sequence[int] = (64, 64),
    activation: type[nn.Module] = nn.Tanh,
) -> nn.Module:
    r"""Return a network :math:`s \mapsto V(s)`, from observations ``(N, ...)`` to values ``(N, 1)``.

    :param observation_space: the environment's, a Box.
    :param hidden_sizes: the widths of the hidden layers.
    :param activation: the activation after each hidden layer.
    :raises ValueError: for a space that is not supported, with what to do about it.
    """
    critic = ContinuousCritic(preprocess_net=make_trunk(observation_space, hidden_sizes, activation))
    initialise_orthogonal(critic, critic.last, head_gain=1.0)
    return critic
