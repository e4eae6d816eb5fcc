"""One update through Tianshou's collector and trainer for every kind of action with every kind of observation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import parameters_of, same
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.envs import FlattenAction, TupleToDictObservation
from trpo_ts.policies import make_policy
from trpo_ts.training import trainer_params

VECTOR, IMAGE = spaces.Box(-1.0, 1.0, (3,)), spaces.Box(0, 255, (12, 12, 3), dtype=np.uint8)
OBSERVATIONS = {
    "vector": VECTOR,
    "image": IMAGE,
    "rank 4": spaces.Box(-1.0, 1.0, (2, 1, 2, 2)),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "dict": spaces.Dict(camera=IMAGE, place=VECTOR),
    "tuple": spaces.Tuple([VECTOR, spaces.Discrete(3)]),
}
ACTIONS = {
    "bounded box": spaces.Box(-2.0, 3.0, (2,)),
    "unbounded box": spaces.Box(-np.inf, np.inf, (2,)),
    "half-bounded matrix": spaces.Box(0.0, np.inf, (2, 2)),
    "discrete": spaces.Discrete(3),
    "equal multi-discrete": spaces.MultiDiscrete([3, 3]),
    "unequal multi-discrete": spaces.MultiDiscrete([2, 3, 5]),
    "multi-binary": spaces.MultiBinary(3),
    "dict": spaces.Dict(push=spaces.Box(-1.0, 1.0, (2,)), gear=spaces.Discrete(3)),
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
}
MASKED = ("discrete", "unequal multi-discrete", "multi-binary")


class Anything(gym.Env[Any, Any]):
    """Random observations; the reward is the sum of the action's numbers."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not isinstance(self.action_space, spaces.Dict | spaces.Tuple):
            action = np.asarray(action, dtype=self.action_space.dtype)
        assert self.action_space.contains(action), action
        self.steps += 1
        return self.observe(), float(spaces.flatten(self.action_space, action).sum()), self.steps == 6, False, {}

    def observe(self) -> Any:
        return self.observation_space.sample()


class Masked(Anything):
    """The last category of the first component is invalid."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        kind = {spaces.Discrete: lambda s: [s.n], spaces.MultiDiscrete: lambda s: s.nvec, spaces.MultiBinary: two_each}
        self.first = int(kind[type(action_space)](action_space)[0])
        self.mask = np.ones(int(np.sum(kind[type(action_space)](action_space))), dtype=np.int8)
        self.mask[self.first - 1] = 0
        super().__init__(spaces.Dict(rest=observation_space, mask=spaces.MultiBinary(len(self.mask))), action_space)

    def observe(self) -> Any:
        return {**self.observation_space.sample(), "mask": self.mask}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert np.atleast_1d(action)[0] != self.first - 1
        return super().step(action)


def two_each(space: spaces.MultiBinary) -> list[int]:
    return [2] * int(space.n)


def environment(observation: str, action: str, masked: bool) -> gym.Env[Any, Any]:
    env: gym.Env[Any, Any] = (Masked if masked else Anything)(OBSERVATIONS[observation], ACTIONS[action])
    env = TupleToDictObservation(env)
    return FlattenAction(env) if isinstance(ACTIONS[action], spaces.Dict | spaces.Tuple) else env


CASES = [(observation, action, False) for observation in OBSERVATIONS for action in ACTIONS]
CASES += [(observation, action, True) for observation in ("vector", "image", "dict") for action in MASKED]


@pytest.mark.parametrize(("observation", "action", "masked"), CASES)
def test_one_update_through_collector_and_trainer(observation: str, action: str, masked: bool):
    torch.manual_seed(0)
    env = environment(observation, action, masked)
    policy = make_policy(
        env.observation_space, env.action_space, hidden_sizes=(8,), mask_key="mask" if masked else None
    )
    algorithm = TRPO(
        policy=policy,
        critic=make_critic(env.observation_space, hidden_sizes=(8,)),
        optim=AdamOptimizerFactory(lr=1e-3),
    )
    envs = DummyVectorEnv([lambda: environment(observation, action, masked)] * 2)
    envs.seed(0)
    recorder, before = TrainingRecorder(), parameters_of(policy)
    algorithm.run_training(
        trainer_params(
            training_collector=Collector[CollectStats](algorithm, envs, VectorReplayBuffer(48, 2)),
            max_epochs=1,
            epoch_num_steps=48,
            collection_step_num_env_steps=48,
            logger=recorder,
            verbose=False,
            show_progress=False,
        )
    )
    (record,) = recorder.updates
    assert not record.rejected
    assert 0.0 < record.kl <= 0.01
    assert record.surrogate_improvement > 0.0
    assert not same(before, policy)
