"""The trunk of a policy or a critic: an encoder of the observations and a perceptron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import Tensor, nn

from trpo_ts.networks.encoders import make_encoder
from trpo_ts.networks.numbers import Encoder
from trpo_ts.networks.orthogonal_layers import orthogonal_linear
from trpo_ts.validation.parameter_values import check_bool, check_instance, check_integer

__all__ = ["Trunk", "make_trunk", "trunk_or"]


class Trunk(ModuleWithVectorOutput):
    """A network from observations to features, called as Tianshou's networks are.

    :param encoder: from the observations to vectors.
    :param hidden_sizes: the widths of the layers behind it.
    :param activation: the activation after each layer.
    :param layer_norm: whether each layer is normalised before its activation.
    """

    def __init__(
        self, encoder: Encoder, hidden_sizes: Sequence[int], activation: type[nn.Module], layer_norm: bool
    ) -> None:
        super().__init__(int(hidden_sizes[-1]))
        self.encoder = encoder
        self.made_with: tuple[gym.Space[Any], tuple[int, ...], type[nn.Module], bool] | None = None
        """The arguments of :func:`make_trunk`, which make such a trunk again; None for one that was made otherwise."""
        layers: list[nn.Module] = []
        inputs = encoder.output_dim
        for width in map(int, hidden_sizes):
            layers += [orthogonal_linear(inputs, width), *([nn.LayerNorm(width)] if layer_norm else []), activation()]
            inputs = width
        self.layers = nn.Sequential(*layers)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        """Return the features, shape ``(N, output_dim)``, and ``state`` as it came: the trunk has no memory."""
        like = next(self.layers.parameters())
        return self.layers(self.encoder(obs, like)), state


def make_trunk(
    observation_space: gym.Space[Any],
    hidden_sizes: Sequence[int] = (64, 64),
    activation: type[nn.Module] = nn.Tanh,
    *,
    layer_norm: bool = False,
) -> Trunk:
    """Return the network from observations to features on which policies and critics put their output layer.

    Give one trunk to :func:`trpo_ts.policies.make_policy` and to :func:`trpo_ts.critics.make_critic`, and they
    share it. ``docs/spaces.md`` says how each kind of observation is encoded.

    :param observation_space: a Box of any shape, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
    :param hidden_sizes: the widths of the hidden layers, each >= 1; typically 64-256.
    :param activation: the activation after each hidden layer; smooth ones suit second-order steps.
    :param layer_norm: whether layers are normalised before their activation (arXiv:1607.06450); helps where
        observations have large or drifting scales.
    :raises ValueError: for another space, with what to do about it, or a width that is no positive integer.
    """
    if not isinstance(hidden_sizes, Iterable) or len(hidden_sizes) == 0:
        raise ValueError(f"hidden_sizes must be a sequence of at least one width, got {hidden_sizes!r}; say (64, 64)")
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise ValueError(f"activation must be a class of modules such as torch.nn.Tanh, got {activation!r}")
    for i, width in enumerate(hidden_sizes):
        check_integer(f"hidden_sizes[{i}]", width, 1)
    image_width = int(hidden_sizes[0]) if isinstance(observation_space, spaces.Dict) else None
    encoder = make_encoder(observation_space, activation, width=image_width)
    trunk = Trunk(encoder, hidden_sizes, activation, check_bool("layer_norm", layer_norm))
    trunk.made_with = (observation_space, tuple(map(int, hidden_sizes)), activation, bool(layer_norm))
    return trunk


def trunk_or(
    trunk: ModuleWithVectorOutput | None,
    observation_space: gym.Space[Any],
    hidden_sizes: Sequence[int],
    activation: type[nn.Module],
    layer_norm: bool,
) -> ModuleWithVectorOutput:
    """Return ``trunk`` where there is one, else a new one; see :func:`make_trunk`.

    :raises ValueError: when it does not say how many features it has.
    """
    if trunk is None:
        return make_trunk(observation_space, hidden_sizes, activation, layer_norm=layer_norm)
    fix = (
        "build one with trpo_ts.networks.make_trunk, or derive yours from that class of Tianshou's "
        "so that trunk(obs, state=None, info=None) returns features and state"
    )
    check_instance("trunk", trunk, ModuleWithVectorOutput, fix)
    return trunk
