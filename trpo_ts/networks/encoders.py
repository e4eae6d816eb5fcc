"""From an observation space to the encoder of its observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.envs.image_shapes import channel_axis
from trpo_ts.networks.entries import entry
from trpo_ts.networks.images import ImageEncoder
from trpo_ts.networks.numbers import Encoder, OneHotEncoder, VectorEncoder
from trpo_ts.networks.orthogonal_layers import orthogonal_linear

__all__ = ["DictEncoder", "make_encoder"]


def make_encoder(
    space: gym.Space[Any], activation: type[nn.Module], name: str = "observation_space", width: int | None = None
) -> Encoder:
    """Return the encoder of a space's observations.

    :param space: a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of these, nested or not.
    :param activation: the activation between the encoder's layers.
    :param name: how an error calls the space.
    :param width: the features that a Dict takes of each image; None for all.
    :raises ValueError: for another space, saying what to do about it.
    """
    if isinstance(space, spaces.Box) and channel_axis(space.shape) is not None and np.prod(space.shape) > 0:
        image = ImageEncoder(space, activation)
        return image if width is None else _Narrowed(image, width, activation)
    if isinstance(space, spaces.Box | spaces.MultiBinary) and np.prod(space.shape) > 0:
        return VectorEncoder(space)
    if isinstance(space, spaces.Discrete):
        return OneHotEncoder([space.n], [space.start])
    if isinstance(space, spaces.MultiDiscrete) and np.prod(space.shape) > 0:
        return OneHotEncoder(space.nvec.flatten(), space.start.flatten())
    if isinstance(space, spaces.Dict) and len(space.spaces) > 0:
        return DictEncoder(space.spaces, activation, name, width)
    raise ValueError(
        f"{name} must be a Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these, with at least one number, "
        f"got {space}; {_fix_for(space)}"
    )


class DictEncoder(Encoder):
    """The vectors of all entries of a Dict, side by side.

    :param entries: the spaces by key.
    :param activation: the activation between the layers of the entries' encoders.
    :param name: how an error calls the Dict.
    :param width: the features of each image.
    """

    def __init__(
        self, entries: Mapping[str, gym.Space[Any]], activation: type[nn.Module], name: str, width: int | None
    ) -> None:
        for key in entries:
            # Tianshou's batch holds its entries as attributes.
            if hasattr(dict, key) or callable(getattr(Batch, key, None)):
                raise ValueError(
                    f"{name} must not have a key that is a method of Tianshou's Batch, got {key!r}; "
                    "rename it with gymnasium.wrappers.TransformObservation"
                )
        encoders = [make_encoder(space, activation, f"{name}[{key!r}]", width) for key, space in entries.items()]
        super().__init__(sum(encoder.output_dim for encoder in encoders))
        self._keys = tuple(entries)
        self.encoders = nn.ModuleList(encoders)

    def forward(self, obs: Any, like: Tensor) -> Tensor:
        """Return the vectors, shape ``(N, output_dim)``, of a batch or mapping with the Dict's keys."""
        return torch.cat(
            [encoder(entry(obs, key), like) for key, encoder in zip(self._keys, self.encoders, strict=True)], dim=1
        )


class _Narrowed(Encoder):
    """An image's features in a layer of their own: thousands of them beside a few numbers would drown these."""

    def __init__(self, image: ImageEncoder, width: int, activation: type[nn.Module]) -> None:
        super().__init__(width)
        self.image = image
        self.layer = nn.Sequential(orthogonal_linear(image.output_dim, width), activation())

    def forward(self, obs: Any, like: Tensor) -> Tensor:
        features: Tensor = self.layer(self.image(obs, like))
        return features


def _fix_for(space: object) -> str:
    if isinstance(space, spaces.Tuple):
        return (
            "wrap the environment in trpo_ts.envs.TupleToDictObservation and take the wrapper's observation_space "
            "(that of a DummyVectorEnv is the innermost environment's)"
        )
    return "make numbers of a fixed size of it with gymnasium.wrappers.FlattenObservation or TransformObservation"
