"""A ball falls and a paddle catches it: a task whose observations are images, learnt in a minute."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from trpo_ts.envs.image_shapes import LEAST_SIDE
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["CatchEnv"]


class CatchEnv(gym.Env[npt.NDArray[np.uint8], np.int64]):
    """Move the paddle on the bottom row under the ball before it arrives there.

    The ball starts in a random column of the top row and falls one row per step, straight down. Actions: 0 moves the
    paddle left, 1 leaves it, 2 moves it right. The reward is 1 for a catch and -1 for a miss, at the last step. An
    observation is an image of shape ``(rows, columns, 1)``, 255 where ball and paddle are.

    :param rows: of the image, >= 4; an episode has one step less.
    :param columns: of the image, >= 4.
    :raises ValueError: for an image that is smaller.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, rows: int = 10, columns: int = 10) -> None:
        self.rows = check_integer("rows", rows, LEAST_SIDE)
        self.columns = check_integer("columns", columns, LEAST_SIDE)
        self.observation_space = gym.spaces.Box(0, 255, (self.rows, self.columns, 1), np.uint8)
        self.action_space = gym.spaces.Discrete(3)
        self._row, self._ball, self._paddle = 0, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Drop a ball into a random column, the paddle in the middle."""
        super().reset(seed=seed)
        self._row, self._ball, self._paddle = 0, int(self.np_random.integers(self.columns)), self.columns // 2
        return self._observation(), {}

    def step(self, action: np.int64 | int) -> tuple[npt.NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move the paddle, and let the ball fall.

        :raises ValueError: for another action than 0, 1 and 2.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action!r}; pass 0 for left, 1 for staying, 2 for right")
        self._paddle = min(max(self._paddle + int(action) - 1, 0), self.columns - 1)
        self._row += 1
        done = self._row == self.rows - 1
        reward = (1.0 if self._ball == self._paddle else -1.0) if done else 0.0
        return self._observation(), reward, done, False, {}

    def _observation(self) -> npt.NDArray[np.uint8]:
        image = np.zeros((self.rows, self.columns, 1), np.uint8)
        image[self._row, self._ball] = image[-1, self._paddle] = 255
        return image
