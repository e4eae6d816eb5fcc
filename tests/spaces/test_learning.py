"""Tasks that need all of an observation or an action are learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from space_tasks import DISTRIBUTIONS, distributions, train
from tianshou.data import CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv

from trpo_ts.collectors import RolloutCollector
from trpo_ts.critics import GaussNewtonFit, make_critic
from trpo_ts.policies import make_policy


class OneStep(gym.Env[Any, Any]):
    """A single step that pays by how well the action answers the observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.obs = self.draw()
        return self.obs, {}

    def step(self, action: Any) -> Any:
        return self.obs, self.reward(action), True, False, {}

    def draw(self) -> Any:
        raise NotImplementedError

    def reward(self, action: Any) -> float:
        raise NotImplementedError


class BrightQuarter(OneStep):
    """In which quarter is the bright spot? It covers 3 x 3 pixels, and all else is noise."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), dtype=np.uint8)
    action_space = spaces.Discrete(4)

    def draw(self) -> Any:
        image = self.np_random.integers(0, 120, (12, 12, 1), dtype=np.uint8)
        row, column = self.np_random.choice([0, 1, 2, 3, 6, 7, 8, 9], 2)
        image[row : row + 3, column : column + 3] = 255
        self.answer = 2 * (row // 6) + column // 6
        return image

    def reward(self, action: Any) -> float:
        return float(action == self.answer)


class SignOfOne(OneStep):
    """Which of two numbers counts is said by another entry, so that no entry alone is worth more than chance."""

    observation_space = spaces.Dict(numbers=spaces.Box(-1, 1, (2,)), which=spaces.Discrete(2, start=1))
    action_space = spaces.Discrete(2)

    def draw(self) -> Any:
        which = int(self.np_random.integers(1, 3))
        numbers = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.answer = int(numbers[which - 1] > 0)
        return {"numbers": numbers, "which": which}

    def reward(self, action: Any) -> float:
        return float(action == self.answer)


class Aim(OneStep):
    """Hit a point in the plane that the observation names."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-2, 2, (2,))

    def draw(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def reward(self, action: Any) -> float:
        return -float(np.square(action - 1.5 * self.obs).sum())


def mean_return(policy: Any, make_env: Callable[[], gym.Env], episodes: int = 200) -> float:
    """Return the mean return of the policy's mode."""
    torch.manual_seed(0)
    envs = DummyVectorEnv([make_env] * 8)
    envs.seed(1000)
    collector = RolloutCollector[CollectStats](policy, envs, VectorReplayBuffer(2 * episodes, 8))
    collector.reset()
    return float(collector.collect(n_episode=episodes).returns.mean())


def learned(make_env: type[OneStep], *, max_kl: float = 0.05, epochs: int, steps: int, **options: Any) -> Any:
    """Return the policy after training."""
    torch.manual_seed(0)
    observation_space = make_env.observation_space
    policy = make_policy(observation_space, make_env.action_space, **options)
    critic = make_critic(observation_space)
    kwargs = {"critic_fit": GaussNewtonFit(), "max_kl": max_kl, "cg_damping": 0.01, "collector": RolloutCollector}
    _, recorder, _ = train(make_env, policy, critic, epochs=epochs, steps=steps, **kwargs)
    assert max(record.kl for record in recorder.updates) <= max_kl
    return policy


class Dark(BrightQuarter):
    """The same question without the pixels that answer it."""

    def draw(self) -> Any:
        super().draw()
        return self.np_random.integers(0, 120, (12, 12, 1), dtype=np.uint8)


def test_a_task_that_needs_the_pixels_is_learned():
    policy = learned(BrightQuarter, epochs=10, steps=1000)
    assert mean_return(policy, BrightQuarter) > 0.9
    assert mean_return(policy, Dark) < 0.4


def test_a_task_that_needs_all_entries_of_a_dict_is_learned():
    assert mean_return(learned(SignOfOne, epochs=10, steps=1000), SignOfOne) > 0.9


@distributions
def test_every_distribution_learns_to_aim(name: str):
    assert mean_return(learned(Aim, max_kl=0.1, epochs=8, steps=480, **DISTRIBUTIONS[name]), Aim) > -0.15
