"""Tasks with structured spaces, registered where this module is imported: ``little_tasks:DictTask-v0``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class DictTask(gym.Env[Any, Any]):
    """Go to a goal on a line; goal and place are parts of a Dict."""

    observation_space = spaces.Dict(
        place=spaces.Box(-np.inf, np.inf, (1,), np.float32), goal=spaces.Discrete(3), seen=spaces.MultiBinary(2)
    )
    action_space: Any = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        self.place, self.goal, self.time = 0.0, 0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.goal, self.time = 0.0, int(self.np_random.integers(3)), 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.place += 0.2 * float(np.clip(np.asarray(action).flat[0], -1.0, 1.0))
        self.time += 1
        return self._observation(), -abs(self.place - self.goal + 1), self.time == 20, False, {}

    def _observation(self) -> dict[str, Any]:
        seen = np.array([self.place > 0, self.goal > 1], np.int8)
        return {"place": np.array([self.place], np.float32), "goal": np.int64(self.goal), "seen": seen}


class TupleTask(DictTask):
    """The same with Tuples for observations and actions."""

    observation_space: Any = spaces.Tuple([spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(3)])
    action_space = spaces.Tuple([spaces.Box(-1.0, 1.0, (1,), np.float32), spaces.Discrete(2)])

    def step(self, action: Any) -> Any:
        return super().step(action[0])

    def _observation(self) -> Any:
        return np.array([self.place], np.float32), np.int64(self.goal)


class ChoicesTask(DictTask):
    """Vectors of whole numbers, and several choices at once."""

    observation_space: Any = spaces.Box(-5, 5, (2,), np.int32)
    action_space = spaces.MultiDiscrete([2, 3])

    def _observation(self) -> Any:
        return np.array([np.clip(int(self.place), -5, 5), self.goal], np.int32)


class FailingTask(DictTask):
    """Gives a number that is none."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def _observation(self) -> Any:
        return np.array([np.nan if self.time == 10 else self.place], np.float32)


for name in ("DictTask", "TupleTask", "ChoicesTask", "FailingTask"):
    gym.register(f"{name}-v0", entry_point=f"little_tasks:{name}")
