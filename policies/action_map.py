"""The map from a policy's actions to those of the environment, for a Box of any shape and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gymnasium import spaces

__all__ = ["ActionMap", "centred_map", "is_bounded", "unit_map"]

_EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class ActionMap:
    r"""From the policy's action :math:`a` to the environment's, :math:`o + s f(a)`, cut off at the bounds.

    :param offset: :math:`o`, in the action's shape.
    :param scale: :math:`s`, likewise.
    :param low: the environment's lower bounds, likewise; infinite where there are none.
    :param high: the upper bounds.
    :param squash: whether :math:`f` is tanh; else it is the identity.
    :param ends: the interval in which :math:`f(a)` stays where the policy samples; its density may end there.
    """

    offset: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    squash: bool = False
    ends: tuple[float, float] = (-np.inf, np.inf)

    def __call__(self, act: np.ndarray) -> np.ndarray:
        """Return the environment's actions, shape ``(N, ...)``."""
        raw = np.tanh(act) if self.squash else act
        moved = self.offset + self.scale * raw if self._moves else raw
        low, high = self._single if moved.dtype == np.float32 and self._single is not None else (self.low, self.high)
        # np.clip would do the same in three times the time, for the few actions of a step.
        sent: np.ndarray = np.minimum(np.maximum(moved, low), high)
        return sent

    @cached_property
    def _moves(self) -> bool:
        return bool((self.offset != 0.0).any() or (self.scale != 1.0).any())

    @cached_property
    def _single(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The bounds in float32, which spares the actions a cast; None where they would not be the same numbers."""
        low, high = self.low.astype(np.float32), self.high.astype(np.float32)
        return (low, high) if (low == self.low).all() and (high == self.high).all() else None

    def inverse(self, act: np.ndarray) -> np.ndarray:
        """Return actions of the policy, within its ends, for the environment's."""
        raw: np.ndarray = np.clip((act - self.offset) / self.scale, *self.ends)
        return np.arctanh(raw) if self.squash else raw


def centred_map(space: spaces.Box, *, squash: bool = False) -> ActionMap:
    """Return the map for policies whose actions are centred at zero.

    A component with two bounds has [-1, 1] scaled to them. One with a single bound has that at a unit's distance
    from its centre, as if it were -1 or 1, and is not scaled; one without any is passed on as it is.
    """
    low, high, below, above = _bounds(space)
    scale = _half_range(low, high, below & above)
    offset = np.zeros_like(low)
    offset[above] = (high - scale)[above]
    offset[below] = (low + scale)[below]
    ends = (_EPS - 1.0, 1.0 - _EPS) if squash else (-np.inf, np.inf)
    return ActionMap(offset, scale, low, high, squash, ends)


def unit_map(space: spaces.Box) -> ActionMap:
    """Return the map for policies whose actions are in [0, 1]; the space has both bounds."""
    low, high, below, above = _bounds(space)
    return ActionMap(low, 2.0 * _half_range(low, high, below & above), low, high, ends=(_EPS, 1.0 - _EPS))


def is_bounded(space: spaces.Box) -> bool:
    """Return whether every component has both bounds."""
    _, _, below, above = _bounds(space)
    return bool((below & above).all())


def _bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper bounds in float64, infinite where there are none, and where there are any."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    # Bounds at the end of the floating range mean none, and their difference is infinite.
    largest = float(np.finfo(str(space.dtype)).max) / 4.0
    below, above = low > -largest, high < largest
    return np.where(below, low, -np.inf), np.where(above, high, np.inf), below, above


def _half_range(low: np.ndarray, high: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """Return half the distance of the bounds, 1 where there are not two different ones."""
    halves = np.ones_like(low)
    different = bounded & (high > low)
    halves[different] = (high - low)[different] / 2.0
    return halves
