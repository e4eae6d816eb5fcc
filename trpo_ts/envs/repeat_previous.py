"""Say what was seen some steps ago: a task that needs a memory."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from trpo_ts.validation.parameter_values import check_integer

__all__ = ["RepeatPreviousEnv"]


class RepeatPreviousEnv(gym.Env[np.int64, np.int64]):
    """At each step a random symbol is shown, and the one of ``delay`` steps before is asked for.

    The return is the share of right answers: 1 for a perfect memory, ``1 / symbols`` for none. The first ``delay``
    steps of an episode ask for nothing. After Morad et al. 2023, *POPGym*, arXiv:2303.01859.

    :param delay: how many steps ago, >= 1.
    :param symbols: how many different ones there are, >= 2.
    :param length: answers per episode, >= 1; an episode has ``delay`` steps more.
    :raises ValueError: for a value outside its range.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, delay: int = 2, symbols: int = 4, length: int = 32) -> None:
        self.delay = check_integer("delay", delay, 1)
        self.symbols = check_integer("symbols", symbols, 2)
        self.length = check_integer("length", length, 1)
        self.observation_space = gym.spaces.Discrete(self.symbols)
        self.action_space = gym.spaces.Discrete(self.symbols)
        self._shown: list[int] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Show the first symbol."""
        super().reset(seed=seed)
        self._shown = []
        return self._show(), {}

    def step(self, action: np.int64 | int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Take the answer to the symbol that was shown last, and show the next one.

        :raises ValueError: for an action that is no symbol.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action!r}; pass a symbol, 0 to {self.symbols - 1}")
        asked = len(self._shown) > self.delay
        right = asked and self._shown[-1 - self.delay] == int(action)
        done = len(self._shown) == self.length + self.delay
        return self._show(), float(right) / self.length, done, False, {}

    def _show(self) -> np.int64:
        symbol = int(self.np_random.integers(self.symbols))
        self._shown.append(symbol)
        return np.int64(symbol)
