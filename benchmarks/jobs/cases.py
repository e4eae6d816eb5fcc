"""What is measured: tasks, shapes of the rollout, and the sides that take part."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

TIANSHOU, SB3 = "Tianshou", "SB3-contrib"
OURS_TIANSHOU = "trpo_ts, Tianshou's Collector"
OURS_ADAM = "trpo_ts, gymnasium, 20 Adam steps"
OURS, OURS_POOL, OURS_BUFFERED = "trpo_ts, gymnasium", "trpo_ts, EnvPool", "trpo_ts, EnvPool, double-buffered"
OURS_POOL_2 = "trpo_ts, EnvPool, 2 threads"
IN_PROCESS = (TIANSHOU, SB3, OURS_TIANSHOU, OURS_ADAM, OURS)
EVERY = (*IN_PROCESS, OURS_POOL, OURS_POOL_2, OURS_BUFFERED)
GYMNASIUM, ENVPOOL = "gymnasium", "EnvPool, 1 thread"
ENVPOOL_2 = "EnvPool, 2 threads"


@dataclass(frozen=True)
class Case:
    """A task with so many environments, so many steps of each per update."""

    task: str
    envs: int
    segment: int
    sides: tuple[str, ...] = EVERY
    simulators: tuple[str, ...] = (GYMNASIUM, ENVPOOL, ENVPOOL_2)
    updates_per_turn: int = 4
    rounds: int = 7

    @property
    def name(self) -> str:
        """The case in a word."""
        return f"{self.task} {self.envs}x{self.segment}"

    def as_dict(self) -> dict[str, Any]:
        """Return what the results hold."""
        return asdict(self)


CASES = (
    Case("HalfCheetah-v4", 16, 64),
    Case("HalfCheetah-v4", 2, 1024, updates_per_turn=2, rounds=5),
    Case("Humanoid-v4", 16, 64, rounds=5),
    Case("CartPole-v1", 16, 64),
    Case("Catch-v0", 16, 16, IN_PROCESS, (GYMNASIUM,), updates_per_turn=1, rounds=3),
)
GROWTH_TASK, GROWTH_STEPS, GROWTH_ENVS = "HalfCheetah-v4", 2048, (1, 2, 4, 8, 16, 32, 64, 128, 256)
GROWTH_SIDES = (TIANSHOU, OURS, OURS_BUFFERED)
