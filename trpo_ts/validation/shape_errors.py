"""A network that was built for other observations: an error that names both shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["named_shapes"]


@contextmanager
def named_shapes(name: str, network: nn.Module, obs: Any) -> Iterator[None]:
    """Say of an error of torch's which observations there are and which the network takes, where these differ.

    :param name: what the network is to a user, "policy" or "critic".
    :param network: the network that is evaluated meanwhile.
    :param obs: observations ``(N, ...)``; of nested ones nothing is said.
    :raises ValueError: in place of torch's error, which stays its cause.
    """
    try:
        yield
    except RuntimeError as error:
        layer = next((m for m in network.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)), None)
        if not isinstance(obs, np.ndarray | Tensor) or layer is None or _takes(layer, obs.shape[1:]):
            raise
        raise ValueError(
            f"{name} must take the environment's observations, of shape {tuple(obs.shape[1:])}, got a "
            f"{type(network).__name__} whose first layer is {layer}; build policy and critic from the same "
            "environment's observation_space"
        ) from error


def _takes(layer: nn.Linear | nn.modules.conv._ConvNd, shape: tuple[int, ...]) -> bool:
    """Whether the layer may be the first one for observations of this shape, as they are or flattened."""
    if isinstance(layer, nn.Linear):
        return layer.in_features in (math.prod(shape), *shape[-1:])
    return layer.in_channels in shape
