"""Returns and lengths of episodes while they run, and the statistics of a collect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tianshou.data import CollectStats, ReplayBuffer

__all__ = ["FinishedEpisodes", "RunningEpisodes"]


@dataclass
class RunningEpisodes:
    """The episodes that run, one in each environment.

    :param returns: the rewards so far, summed in the rewards' own precision as Tianshou's buffer does, shape ``(N,)``,
        or ``(N, k)`` for rewards of ``k`` agents.
    :param lengths: the steps so far, shape ``(N,)``.
    """

    returns: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, parts: list[ReplayBuffer], rewards: np.ndarray) -> RunningEpisodes:
        """Return the episodes that run according to the buffer.

        :param parts: the buffer of each environment.
        :param rewards: the rewards of a step, which give shape and precision.
        """
        so_far = [part._ep_return for part in parts]
        kind = np.result_type(*{type(value): value for value in so_far}.values(), rewards.dtype)
        kind = kind if kind.kind == "f" else np.dtype(float)
        returns = np.empty((len(parts), *rewards.shape[1:]), dtype=kind)
        for env, value in enumerate(so_far):
            returns[env] = value
        return cls(returns, np.array([part._ep_len for part in parts]))

    def step(self, envs: np.ndarray | None, rewards: np.ndarray) -> None:
        """Add a step of some environments; None means all."""
        if envs is None:
            self.returns += rewards
            self.lengths += 1
        else:
            self.returns[envs] += rewards
            self.lengths[envs] += 1

    def begin(self, envs: np.ndarray) -> None:
        """Begin new episodes."""
        self.returns[envs] = 0.0
        self.lengths[envs] = 0


@dataclass
class FinishedEpisodes:
    """The episodes that ended in a collect, in the order in which they did."""

    returns: list[Any] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, episodes: RunningEpisodes, envs: np.ndarray) -> None:
        """Add those that have ended in some environments."""
        self.returns.extend(episodes.returns[envs])
        self.lengths.extend(episodes.lengths[envs].tolist())

    def into(self, stats: CollectStats) -> None:
        """Write them into the statistics of a collect."""
        stats.n_collected_episodes = len(self.lengths)
        if self.lengths:
            stats.returns = np.array(self.returns, dtype=float)
            stats.lens = np.array(self.lengths, dtype=int)
