"""Encoders of numbers and categories, and what all encoders have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from trpo_ts.networks.entries import check_shape

__all__ = ["Encoder", "OneHotEncoder", "UnitScale", "VectorEncoder"]

_WIDEST_SCALE = 2**16
"""Integers of more values than this are quantities, not levels, and their bounds may be those of the dtype."""


class Encoder(nn.Module):
    """A module from a batch of observations of one space to vectors.

    It is called with the observations, as arrays or tensors, and a tensor whose dtype and device are the network's.

    :param output_dim: the length of the vectors.
    """

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim


class UnitScale(nn.Module):
    """Numbers of the network's dtype, mapped to [0, 1] by the bounds of their space where it has bounds."""

    low: Tensor
    inverse_range: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self._shape = tuple(space.shape)
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        widest = _WIDEST_SCALE if space.dtype.kind in "iu" else np.finfo(np.float32).max
        with np.errstate(over="ignore", invalid="ignore"):
            bounded = bool((space.bounded_below & space.bounded_above & (high - low < widest)).all())
        self._needed = bounded and bool((low != 0.0).any() or (high != 1.0).any())
        if self._needed:  # the bounds are part of the space, not of a checkpoint
            inverse_range = 1.0 / np.where(high > low, high - low, 1.0)
            self.register_buffer("low", torch.as_tensor(low).float(), persistent=False)
            self.register_buffer("inverse_range", torch.as_tensor(inverse_range).float(), persistent=False)

    def forward(self, obs: Any, like: Tensor) -> Tensor:
        """Return the numbers, in the shape of the observations."""
        numbers = torch.as_tensor(obs, device=like.device).to(like.dtype)
        check_shape(numbers.shape, self._shape)
        return (numbers - self.low) * self.inverse_range if self._needed else numbers


class VectorEncoder(Encoder):
    """All numbers of an observation as one vector: floating ones as they are, integers mapped to [0, 1].

    :param space: a Box or MultiBinary of any shape.
    """

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        super().__init__(int(np.prod(space.shape)))
        self._shape = tuple(space.shape)
        self.scale = UnitScale(space) if isinstance(space, spaces.Box) and space.dtype.kind != "f" else None

    def forward(self, obs: Any, like: Tensor) -> Tensor:
        """Return the vectors, shape ``(N, output_dim)``."""
        if self.scale is None:
            numbers = torch.as_tensor(obs, device=like.device).to(like.dtype)
        else:
            numbers = self.scale(obs, like)
        vectors = numbers.reshape(numbers.shape[0], -1)
        if vectors.shape[1] != self.output_dim:
            check_shape(numbers.shape, self._shape)
        return vectors


class OneHotEncoder(Encoder):
    """One-hot vectors of categories, one after another.

    :param counts: the number of categories of each component.
    :param starts: the smallest category of each.
    """

    positions: Tensor

    def __init__(self, counts: Iterable[int], starts: Iterable[int]) -> None:
        counts = np.array([int(count) for count in counts])
        super().__init__(int(counts.sum()))
        self._components = len(counts)
        firsts = np.cumsum(counts) - counts - np.array([int(start) for start in starts])
        self.register_buffer("positions", torch.as_tensor(firsts), persistent=False)

    def forward(self, obs: Any, like: Tensor) -> Tensor:
        """Return zeros and ones, shape ``(N, output_dim)``, for categories ``(N, ...)``."""
        categories = torch.as_tensor(obs, device=like.device).long()
        columns = categories.reshape(categories.shape[0], -1)
        if columns.shape[1] != self._components:
            check_shape(categories.shape, (self._components,))
        indices = columns + self.positions
        return like.new_zeros(indices.shape[0], self.output_dim).scatter_(1, indices, 1.0)
