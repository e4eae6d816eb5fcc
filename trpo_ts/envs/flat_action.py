"""Spaces of structured actions in the form of flat arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces

__all__ = ["FlatAction"]


class FlatAction(spaces.Box):
    r"""The flat form of a structured action space: first all real numbers, then all category indices.

    Real numbers with bounds are in units of them, -1 the lower and 1 the upper, and clipped there; others are as
    they are. Categories count from 0. The space knows the structure, and keeps it in copies and pickles.

    >>> space = FlatAction(spaces.Dict(aim=spaces.Box(0.0, 10.0, (2,)), gear=spaces.MultiDiscrete([2, 3])))
    >>> space.unflatten([0.0, 1.0, 1, 2])
    {'aim': array([ 5., 10.], dtype=float32), 'gear': array([1, 2])}

    :param structure: Box, Discrete, MultiDiscrete and MultiBinary spaces in any nesting of Tuple and Dict.
    :raises ValueError: for another kind of space, integer Boxes, Boxes with bounds on one side only, and no number
        at all.
    """

    def __init__(self, structure: gym.Space[Any]) -> None:
        self.structure = structure
        leaves = list(_leaves(structure))
        boxes = [leaf for leaf in leaves if isinstance(leaf, spaces.Box)]
        with np.errstate(over="ignore", invalid="ignore"):  # bounds at the end of the floating range are none
            width = np.concatenate([np.zeros(0), *((box.high - box.low).ravel() for box in boxes)])
        self._bounded = np.isfinite(width)
        self._width = np.where(self._bounded, width, 0.0)
        self._low = np.where(self._bounded, np.concatenate([np.zeros(0), *(box.low.ravel() for box in boxes)]), 0.0)
        self.reals = len(width)
        """How many real numbers come first."""
        self.nvec = np.concatenate([np.zeros(0, np.int64), *map(_categories, leaves)])
        """The numbers of categories of the indices that follow, shape ``(indices,)``."""
        if self.reals + len(self.nvec) == 0:
            raise ValueError(f"action_space must hold at least one number or category, got {structure}")
        end = np.where(self._bounded, 1.0, np.inf)
        super().__init__(
            np.concatenate([-end, np.zeros(len(self.nvec))]).astype(np.float32),
            np.concatenate([end, self.nvec - 1]).astype(np.float32),
            dtype=np.float32,
        )

    def unflatten(self, action: np.ndarray) -> Any:
        """Return the structured action of a flat one, shape ``(reals + indices,)``."""
        reals, indices = np.split(np.asarray(action, dtype=np.float64), [self.reals])
        numbers = np.where(self._bounded, self._low + self._width * (reals + 1.0) / 2.0, reals)
        return _build(self.structure, iter(numbers), iter(indices.astype(np.int64)))

    def sample(self, mask: None = None, probability: None = None) -> np.ndarray:
        """Draw a flat action: uniform within bounds and over categories, normal where there are no bounds."""
        action = super().sample(mask, probability)
        action[self.reals :] = self.np_random.integers(self.nvec)
        return action

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FlatAction) and self.structure == other.structure

    def __repr__(self) -> str:
        return f"FlatAction({self.structure})"


def _leaves(space: gym.Space[Any]) -> Iterator[gym.Space[Any]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from _leaves(part)
        return
    if isinstance(space, spaces.Box):
        _check_box(space)
    elif not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise ValueError(
            f"action_space must be made of Box, Discrete, MultiDiscrete, MultiBinary, Tuple and Dict, got {space}; "
            "write an action wrapper that replaces it"
        )
    yield space


def _check_box(space: spaces.Box) -> None:
    if not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"action_space must hold Boxes of floating-point numbers, got {space}; use MultiDiscrete")
    if (space.bounded_below != space.bounded_above).any():
        raise ValueError(
            f"action_space must hold Boxes whose numbers are bounded on both sides or on none, got {space}; "
            "use an action wrapper that sets finite bounds"
        )


def _categories(space: gym.Space[Any]) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return np.array([space.n])
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ravel().astype(np.int64)
    return np.full(space.shape, 2).ravel() if isinstance(space, spaces.MultiBinary) else np.zeros(0, np.int64)


def _build(space: gym.Space[Any], numbers: Iterator[Any], indices: Iterator[Any]) -> Any:
    """Return an action of the space, taking from the numbers and indices what it needs, in the leaves' order."""
    if isinstance(space, spaces.Dict):
        return {key: _build(part, numbers, indices) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_build(part, numbers, indices) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(next(indices) + space.start)
    shape = cast(tuple[int, ...], space.shape)
    if isinstance(space, spaces.Box):
        reals = np.fromiter(numbers, space.dtype, math.prod(shape)).reshape(shape)
        return np.asarray(np.clip(reals, space.low, space.high))
    chosen = np.fromiter(indices, np.int64, math.prod(shape)).reshape(shape)
    return (chosen + space.start if isinstance(space, spaces.MultiDiscrete) else chosen).astype(space.dtype)
