"""What every learning curve has in common: tasks, steps, tests, seeds, and the form of a result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import common

__all__ = ["MUJOCO_TASKS", "OTHER_TASKS", "TEST_EPISODES", "Curve", "Plan", "recorded"]

TEST_EPISODES = 10
_TESTS = 20

_MUJOCO_STEPS = 1_000_000
MUJOCO_TASKS = {
    f"{name}-v4": _MUJOCO_STEPS
    for name in (
        "Ant",
        "HalfCheetah",
        "Hopper",
        "Walker2d",
        "Swimmer",
        "Humanoid",
        "Reacher",
        "InvertedPendulum",
        "InvertedDoublePendulum",
    )
}
"""Environment steps by task."""

OTHER_TASKS = {
    "CartPole-v1": 100_000,
    "Acrobot-v1": 100_000,
    "MountainCarContinuous-v0": 100_000,
    "Pendulum-v1": 200_000,
    "LunarLander-v3": 500_000,
    "BipedalWalker-v3": 1_000_000,
}


@dataclass(frozen=True)
class Plan:
    """One run: who trains on what, and for how long.

    :param side: the name of the library and its settings.
    :param task: the id of the environment.
    :param seed: of everything that is drawn.
    :param steps: environment steps.
    :param overrides: settings in place of the side's own.
    """

    side: str
    task: str
    seed: int
    steps: int
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def test_every(self) -> int:
        """Environment steps between two tests."""
        return math.ceil(self.steps / _TESTS)

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells the run from others."""
        return self.side, self.task, self.seed


@dataclass
class Curve:
    """The tests of a run, and the returns of its training episodes in between.

    :param steps: environment steps before each test.
    :param returns: mean return of each test, by the mean or most probable action.
    :param training: mean return of the training episodes that ended since the test before; None without one.
    """

    steps: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    training: list[float | None] = field(default_factory=list)

    def add(self, steps: int, test_return: float, training_returns: list[float]) -> None:
        """Add a test."""
        self.steps.append(int(steps))
        self.returns.append(round(float(test_return), 2))
        mean = sum(training_returns) / len(training_returns) if training_returns else None
        self.training.append(None if mean is None else round(float(mean), 2))


def recorded(plan: Plan, train: Callable[[Plan], Curve]) -> dict[str, Any]:
    """Return the record of a run: its plan, its curve, how long it took, and on what.

    ``cpu_seconds`` is the processor time of the run, tests included; ``seconds`` depends more on what runs beside it.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    curve = train(plan)
    return {
        **vars(plan),
        **vars(curve),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "environment": common.environment(),
    }
