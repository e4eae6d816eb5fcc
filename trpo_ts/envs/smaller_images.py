"""Images averaged down to a size that a network of usual size reads."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from trpo_ts.envs.image_shapes import LEAST_SIDE, channel_axis
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["SmallerImages"]


class SmallerImages(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Images whose height and width are at most ``side``; each pixel is the mean of the area that it covers.

    It needs no image library. Grey images ``(H, W)`` and images with channels first or last are taken.

    :param env: the environment, whose observations are images.
    :param side: the longest side, >= 4; shorter ones stay as they are.
    :raises ValueError: for observations that are no images.
    """

    def __init__(self, env: gym.Env[Any, Any], side: int = 84) -> None:
        RecordConstructorArgs.__init__(self, side=side)
        super().__init__(env)
        check_integer("side", side, LEAST_SIDE)
        space = env.observation_space
        grey = isinstance(space, spaces.Box) and len(space.shape) == 2
        channels = None if grey or not isinstance(space, spaces.Box) else channel_axis(space.shape)
        if not isinstance(space, spaces.Box) or not (grey or channels is not None):
            raise ValueError(f"observations must be images, got {space}; leave the wrapper out")
        self._axes = [axis for axis in range(len(space.shape)) if axis != channels]
        self._means = [_area_means(space.shape[axis], min(space.shape[axis], side)) for axis in self._axes]
        self._dtype = space.dtype
        self.observation_space = spaces.Box(
            self._averaged(space.low), self._averaged(space.high), dtype=space.dtype.type
        )

    def observation(self, observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the smaller image."""
        return self._averaged(observation)

    def _averaged(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        small = image.astype(np.float32)
        for axis, means in zip(self._axes, self._means, strict=True):
            small = np.moveaxis(np.tensordot(means, small, axes=(1, axis)), 0, axis)
        rounded = np.rint(small) if np.issubdtype(self._dtype, np.integer) else small
        return np.ascontiguousarray(rounded.astype(self._dtype))


def _area_means(length: int, count: int) -> npt.NDArray[np.float32]:
    """Return the matrix ``(count, length)`` that averages ``length`` pixels over ``count`` equal areas."""
    ends = np.linspace(0.0, length, count + 1)
    pixels = np.arange(length)
    overlaps = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    means: npt.NDArray[np.float32] = (np.maximum(overlaps, 0.0) * count / length).astype(np.float32)
    return means
