"""Small environments for the tests of action spaces, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import CollectStats, InfoStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from torch import nn

from trpo_ts import TRPO
from trpo_ts.collectors import RolloutCollector

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class Anything(gym.Env[np.ndarray, Any]):
    """Takes any action that is of its action space, and raises for others; episodes of five steps."""

    observation_space = OBSERVATIONS

    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), (self.action_space, action)
        self.steps += 1
        return self._observation(), float(self.np_random.random()), False, self.steps == 5, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.standard_normal(3).astype(np.float32)


class Matching(gym.Env[np.ndarray, np.ndarray]):
    """One step: the observation names a category of each component, and each that is matched pays its share."""

    action_space = spaces.MultiDiscrete([2, 3, 5], start=[0, 10, -2])
    observation_space = spaces.Box(0.0, 1.0, (10,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.target = self.np_random.integers(self.action_space.nvec)
        observation = [np.eye(n, dtype=np.float32)[i] for n, i in zip(self.action_space.nvec, self.target, strict=True)]
        self.observation = np.concatenate(observation)
        return self.observation, {}

    def step(self, action: np.ndarray) -> Any:
        matched = float((action - self.action_space.start == self.target).mean())
        return self.observation, matched, True, False, {}


class FirstValid(gym.Env[dict[str, np.ndarray], int]):
    """Eight actions, of which the mask, drawn anew at each of ten steps, allows some: the first of them pays 1.

    An action that is not allowed costs 1 and ends the episode. Only the mask says which are.
    """

    action_space = spaces.Discrete(8)
    observation_space = spaces.Dict(
        observation=OBSERVATIONS,
        action_mask=spaces.Box(0, 1, (8,), np.int8),
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        valid = bool(self.mask[action])
        reward = float(action == self.mask.argmax()) if valid else -1.0
        return self._observe(), reward, not valid, self.steps == 10, {}

    def _observe(self) -> dict[str, np.ndarray]:
        self.mask = (self.np_random.random(8) < 0.5).astype(np.int8)
        self.mask[self.np_random.integers(8)] = 1
        return {"observation": np.ones(3, np.float32), "action_mask": self.mask}


def train(
    policy: ProbabilisticActorPolicy,
    critic: nn.Module,
    make_env: Callable[[], gym.Env[Any, Any]],
    *,
    updates: int,
    steps: int = 512,
    seed: int = 0,
    **kwargs: Any,
) -> tuple[TRPO, InfoStats]:
    """Train with eight environments in Tianshou's trainer."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    envs = DummyVectorEnv([make_env] * 8)
    envs.seed(seed)
    kwargs = {"max_kl": 0.05, "optim": AdamOptimizerFactory(lr=1e-2)} | kwargs
    algorithm = TRPO(policy=policy, critic=critic, **kwargs)
    stats = algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=RolloutCollector[CollectStats](algorithm, envs, VectorReplayBuffer(steps, 8)),
            max_epochs=1,
            epoch_num_steps=updates * steps,
            collection_step_num_env_steps=steps,
            batch_size=None,
        )
    )
    return algorithm, stats


def mean_return(algorithm: TRPO, make_env: Callable[[], gym.Env[Any, Any]], episodes: int = 200) -> float:
    """Return the mean return of the policy's modes."""
    envs = DummyVectorEnv([make_env] * 8)
    envs.seed(1000)
    collector = RolloutCollector[CollectStats](algorithm, envs)
    collector.reset()
    return float(collector.collect(n_episode=episodes).returns.mean())
