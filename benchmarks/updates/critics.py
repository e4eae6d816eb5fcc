"""Critics that learn beside a policy, and the returns that they are judged by."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tianshou.data import VectorReplayBuffer
from torch import Tensor, nn

from trpo_ts.critics import CriticFit, CriticTask
from updates.training import Training

__all__ = ["LEFT_TO_CRITICS", "CriticRollout", "Follower"]

LEFT_TO_CRITICS = 0.1
"""The largest part of the value at a rollout's end that a return may hold and still count as true."""


@dataclass
class Follower:
    """A critic that learns beside the policy."""

    fit: CriticFit
    critic: nn.Module
    optimizer: torch.optim.Optimizer

    def learn(self, obs: Tensor, returns: Tensor) -> None:
        """Fit the critic once."""
        with torch.random.fork_rng():  # the data must not depend on who draws minibatches
            self.fit.fit(CriticTask(self.critic, self.optimizer, obs, returns))

    def learned_from(self, start: Follower, obs: Tensor, returns: Tensor) -> Follower:
        """Return what one fit makes of another's critic, which stays as it is."""
        follower = Follower(self.fit, *copy.deepcopy((start.critic, start.optimizer)))
        follower.learn(obs, returns)
        return follower

    def values(self, obs: Tensor) -> Tensor:
        """Return the values, shape ``(N,)``."""
        with torch.no_grad():
            values: Tensor = self.critic(obs).flatten()
        return values

    def error(self, obs: Tensor, returns: Tensor) -> float:
        """Return the mean squared error."""
        return float((self.values(obs) - returns).square().mean())


class CriticRollout:
    """Observations of a buffer, and returns on it, in units of the running standard deviation of returns."""

    def __init__(self, training: Training, buffer: VectorReplayBuffer) -> None:
        self.buffer = buffer
        self._algorithm = training.algorithm
        self._scale = math.sqrt(training.algorithm.ret_rms.var + 1e-8)
        self._batch, self._indices = buffer.sample(0)
        self.obs = torch.as_tensor(self._batch.obs, dtype=torch.float32)
        self._obs_next = torch.as_tensor(self._batch.obs_next, dtype=torch.float32)

    def targets(self, follower: Follower) -> Tensor:
        """Return the lambda-returns that the follower's critic leads to, shape ``(N,)``."""
        values, next_values = follower.values(self.obs), follower.values(self._obs_next)
        return self._returns(self._batch.rew, values, next_values, self._algorithm.gae_lambda)

    def true_returns(self, all_followers: Iterable[Follower]) -> tuple[Tensor, Tensor]:
        """Return the rows whose future is long enough, and their discounted returns."""
        values = [(f.values(self.obs), f.values(self._obs_next)) for f in all_followers]
        mean, next_mean = (torch.stack(parts).mean(0) for parts in zip(*values, strict=True))
        # Without rewards, and with values of one everywhere, a return is what of it is the critic's.
        left = self._returns(0.0 * self._batch.rew, torch.ones_like(mean), torch.ones_like(mean), 1.0)
        rows = torch.nonzero(left <= LEFT_TO_CRITICS).flatten()
        return rows, self._returns(self._batch.rew, mean, next_mean, 1.0)[rows]

    def _returns(self, rewards: np.ndarray, values: Tensor, next_values: Tensor, gae_lambda: float) -> Tensor:
        batch = copy.copy(self._batch)
        batch.rew = rewards
        returns, _ = self._algorithm.compute_episodic_return(
            batch,
            self.buffer,
            self._indices,
            self._scale * next_values.numpy(),
            self._scale * values.numpy(),
            gamma=self._algorithm.gamma,
            gae_lambda=gae_lambda,
        )
        return torch.as_tensor(returns / self._scale, dtype=torch.float32)
