"""Rollouts written out step by step, and the estimator of advantages for them."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, ReplayBuffer, VectorReplayBuffer
from torch import Tensor, nn

from trpo_ts import NPG
from trpo_ts.policies import diagonal_gaussian
from trpo_ts.rollout import Rollout
from trpo_ts.tianshou_adapter import rollout_of


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, obs: Tensor, state: Any = None, info: Any = None) -> tuple[tuple[Tensor, Tensor], Any]:
        mean = self.mean(torch.as_tensor(obs))
        return (mean, torch.ones_like(mean)), state


class Critic(nn.Module):
    """V(s) = tanh(w . s) in float64; counts the rows it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -1.3], dtype=torch.float64))
        self.rows = 0

    def forward(self, obs: Tensor) -> Tensor:
        self.rows += len(obs)
        return torch.tanh(torch.as_tensor(obs) @ self.weight).unsqueeze(-1)


def value_of(obs: np.ndarray) -> float:
    return math.tanh(0.7 * obs[0] - 1.3 * obs[1])


def algorithm_with(**settings: Any) -> NPG:
    box = gym.spaces.Box(-1, 1, (1,))
    policy = ProbabilisticActorPolicy(
        actor=Actor(), dist_fn=diagonal_gaussian, action_space=box, action_scaling=False, action_bound_method=None
    )
    return NPG(policy=policy, critic=Critic(), optim=AdamOptimizerFactory(lr=1e-3), **settings)


Step = dict[str, Any]


def steps_of_env(ends: str, rng: np.random.Generator) -> list[Step]:
    """Return an environment's steps; the letters of ``ends`` say whether each terminates, truncates or continues."""
    steps, obs = [], rng.normal(size=2)
    for t, end in enumerate(ends):
        following = rng.normal(size=2)
        steps.append(
            {
                "obs": obs,
                "obs_next": following,
                "act": rng.normal(size=1),
                "rew": rng.normal(),
                "terminated": end in "TB",
                "truncated": end in "LB",
                "info": {"t": t},
            }
        )
        obs = following if end == "." else rng.normal(size=2)
    return steps


def fill(envs: list[list[Step]], size: int) -> VectorReplayBuffer:
    """Add the steps environment by environment in turn, as a collector does."""
    buffer = VectorReplayBuffer(size * len(envs), len(envs))
    for t in range(max(map(len, envs))):
        for i, steps in enumerate(envs):
            if t < len(steps):
                buffer.add(Batch([steps[t]]), buffer_ids=[i])
    return buffer


def naive_gae(envs: list[list[Step]], gamma: float, lam: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A_t = sum_k (gamma lambda)^k delta_{t+k} up to the end of the episode or of the rollout; R_t = A_t + V(s_t)."""
    advantages, returns = [], []
    for steps in envs:
        for t, first in enumerate(steps):
            total, discount = 0.0, 1.0
            for step in steps[t:]:
                bootstrap = 0.0 if step["terminated"] else value_of(step["obs_next"]) * scale
                total += discount * (step["rew"] + gamma * bootstrap - value_of(step["obs"]) * scale)
                discount *= gamma * lam
                if step["terminated"] or step["truncated"]:
                    break
            advantages.append(total)
            returns.append(total + value_of(first["obs"]) * scale)
    return np.array(advantages), np.array(returns)


def rollout_from(algorithm: NPG, buffer: ReplayBuffer) -> Rollout:
    batch, indices = buffer.sample(0)
    return rollout_of(algorithm._preprocess_batch(batch, buffer, indices))
