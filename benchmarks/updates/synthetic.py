"""A rollout of random numbers: of any size, without the time to collect one."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from tianshou.data import Batch

from updates.training import N_ENVS

__all__ = ["SyntheticRollout", "SyntheticSpaces"]

OBSERVATIONS, ACTIONS = 17, 6


class SyntheticSpaces(gym.Env[np.ndarray, np.ndarray]):
    """The spaces of HalfCheetah, and nothing to step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)


class SyntheticRollout:
    """As much of a buffer as an update needs: 16 environments, normal observations, actions and rewards, no ends.

    :param samples: the number of transitions, a multiple of 16.
    """

    def __init__(self, samples: int) -> None:
        rng = np.random.default_rng(0)
        obs = rng.standard_normal((samples + 1, OBSERVATIONS), dtype=np.float32)
        ends = np.zeros(samples, dtype=bool)
        self.terminated = ends
        self._batch = Batch(
            obs=obs[:-1],
            obs_next=obs[1:],
            act=rng.standard_normal((samples, ACTIONS), dtype=np.float32),
            rew=rng.standard_normal(samples),
            terminated=ends,
            truncated=ends,
            info=Batch(env_id=np.zeros(samples, dtype=np.int64)),
        )

    def __len__(self) -> int:
        return len(self.terminated)

    def sample(self, size: int | None) -> tuple[Batch, np.ndarray]:
        """Return a copy of all transitions and their indices, as a buffer does."""
        indices = np.arange(len(self))
        return self._batch[indices], indices

    def unfinished_index(self) -> np.ndarray:
        """Return the last transition of each environment."""
        return np.arange(1, N_ENVS + 1) * (len(self) // N_ENVS) - 1
