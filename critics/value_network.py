"""One call that builds a sound critic for an environment's observations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import Tensor, nn

from trpo_ts.networks.orthogonal_layers import orthogonal_linear
from trpo_ts.networks.trunk import trunk_or
from trpo_ts.validation.argument_names import NETWORK_NAMES, explained

__all__ = ["ValueNetwork", "make_critic"]


class ValueNetwork(nn.Module):
    r"""A trunk and a linear layer, :math:`s \mapsto V(s)`.

    :param trunk: the network from observations to features.
    """

    def __init__(self, trunk: ModuleWithVectorOutput) -> None:
        super().__init__()
        self.preprocess = trunk
        self.last = orthogonal_linear(trunk.get_output_dim(), 1, gain=1.0)

    def forward(self, obs: Any) -> Tensor:
        """Return the values, shape ``(N, 1)``."""
        features, _ = self.preprocess(obs)
        values: Tensor = self.last(features)
        return values


@explained(NETWORK_NAMES)
def make_critic(
    observation_space: gym.Space[Any],
    *,
    hidden_sizes: Sequence[int] = (64, 64),
    activation: type[nn.Module] = nn.Tanh,
    layer_norm: bool = False,
    trunk: ModuleWithVectorOutput | None = None,
) -> ValueNetwork:
    r"""Return a network :math:`s \mapsto V(s)`, from observations ``(N, ...)`` to values ``(N, 1)``.

    :param observation_space: the environment's: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
    :param hidden_sizes: the widths of the hidden layers.
    :param activation: the activation after each hidden layer.
    :param layer_norm: whether hidden layers are normalised before their activation.
    :param trunk: a network from observations to features that takes the place of the hidden layers; see
        :func:`trpo_ts.policies.make_policy`. One that is the policy's is trained by the policy's steps alone.
    :raises ValueError: for a space that is not supported, with what to do about it.
    """
    return ValueNetwork(trunk_or(trunk, observation_space, hidden_sizes, activation, layer_norm))
