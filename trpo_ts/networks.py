"""What the networks of policies and critics have in common: the trunk and its initialisation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.utils.net.common import Net
from torch import nn

from trpo_ts.checks import check_integer

__all__ = ["initialise_orthogonal", "make_trunk"]


def make_trunk(observation_space: gym.Space[object], hidden_sizes: Sequence[int], activation: type[nn.Module]) -> Net:
    """Return Tianshou's multi-layer perceptron for the observations, without an output layer.

    :param observation_space: a Box of any shape; it is flattened.
    :param hidden_sizes: the widths of the hidden layers, each >= 1.
    :param activation: the activation after each hidden layer.
    :raises ValueError: for another space, or a width that is no positive integer.
    """
    if not isinstance(observation_space, spaces.Box) or int(np.prod(observation_space.shape)) == 0:
        raise ValueError(
            f"observation_space must be a Box with at least one number, got {observation_space}; "
            "wrap the environment with gymnasium.wrappers.FlattenObservation"
        )
    if not isinstance(hidden_sizes, Iterable) or len(hidden_sizes) == 0:
        raise ValueError(f"hidden_sizes must be a sequence of at least one width, got {hidden_sizes!r}; say (64, 64)")
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise ValueError(f"activation must be a class of modules such as torch.nn.Tanh, got {activation!r}")
    for i, width in enumerate(hidden_sizes):
        check_integer(f"hidden_sizes[{i}]", width, 1)
    return Net(state_shape=observation_space.shape, hidden_sizes=tuple(map(int, hidden_sizes)), activation=activation)


def initialise_orthogonal(network: nn.Module, head: nn.Module, head_gain: float) -> None:
    r"""Set weights orthogonal and biases zero: gain :math:`\sqrt2` in the trunk, ``head_gain`` in the output layer.

    A small gain of the actor's output layer starts every state at nearly the same, centred action distribution,
    so that the first trust regions are not spent on undoing a random policy.

    :param network: the whole network.
    :param head: the part of it whose last linear layer is the output.
    :param head_gain: the gain of that layer.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, math.sqrt(2.0))
            nn.init.zeros_(module.bias)
    *_, output = (module for module in head.modules() if isinstance(module, nn.Linear))
    nn.init.orthogonal_(output.weight, head_gain)
