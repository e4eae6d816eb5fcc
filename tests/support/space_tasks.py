"""Random tasks of any observation and action space, trained by the collector and trainer of Tianshou."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from torch import nn
from torch.distributions import Distribution, kl_divergence

from trpo_ts import TRPO
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.envs import TupleToDictObservation
from trpo_ts.network_inputs import as_tensors
from trpo_ts.policy_map import PolicyMap
from trpo_ts.runtime import without_validation

VECTOR = spaces.Box(-np.inf, np.inf, (3,))
IMAGE = spaces.Box(0, 255, (12, 12, 3), dtype=np.uint8)
OBSERVATIONS: dict[str, spaces.Space] = {
    "vector": VECTOR,
    "number": spaces.Box(-1, 1, ()),
    "float64": spaces.Box(-1, 1, (2,), dtype=np.float64),
    "float16": spaces.Box(-1, 1, (2,), dtype=np.float16),
    "matrix": spaces.Box(-1, 1, (3, 4)),
    "rank 4": spaces.Box(-1, 1, (2, 3, 2, 2)),
    "small cube": spaces.Box(-1, 1, (3, 2, 2)),
    "integers": spaces.Box(-5, 10, (3,), dtype=np.int32),
    "wide integers": spaces.Box(0, 100_000, (2,), dtype=np.int64),
    "uint16": spaces.Box(0, 65535, (3,), dtype=np.uint16),
    "bool": spaces.Box(0, 1, (3,), dtype=bool),
    "image, channels last": IMAGE,
    "image, channels first": spaces.Box(0, 255, (3, 12, 14), dtype=np.uint8),
    "image of floats": spaces.Box(0, 1, (4, 5, 1)),
    "image, large": spaces.Box(0, 255, (40, 36, 1), dtype=np.uint8),
    "image of bool": spaces.Box(0, 1, (10, 10, 4), dtype=bool),
    "discrete": spaces.Discrete(4),
    "discrete, shifted": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-discrete, shifted": spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[1, -2], [0, 5]]),
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary matrix": spaces.MultiBinary([2, 3]),
    "dict": spaces.Dict(camera=IMAGE, position=VECTOR, mode=spaces.Discrete(3, start=1)),
    "nested dict": spaces.Dict(
        {"a.b": VECTOR, "inner": spaces.Dict(mode=spaces.MultiDiscrete([2, 3]), bits=spaces.MultiBinary(2))}
    ),
    "tuple": spaces.Tuple([VECTOR, spaces.Discrete(3), IMAGE]),
    "tuple in a dict in a tuple": spaces.Tuple(
        [spaces.Dict(x=spaces.Tuple([VECTOR, VECTOR]), y=spaces.Discrete(2)), spaces.MultiBinary(2)]
    ),
}
BOX = spaces.Box(-2.0, 3.0, (2,))
DISCRETE = spaces.Discrete(3)


class Random(gym.Env[Any, Any]):
    """Any observations, episodes of five steps, and a reward that depends on the action."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = copy.deepcopy(observation_space), action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(np.asarray(action)), action
        self.steps += 1
        return self.observation_space.sample(), float(np.sum(action)), self.steps == 5, False, {}


def env_of(observation_space: spaces.Space, action_space: spaces.Space) -> gym.Env:
    return TupleToDictObservation(Random(observation_space, action_space))


def train(
    make_env: Callable[[], gym.Env],
    policy: Any,
    critic: nn.Module,
    *,
    epochs: int = 1,
    steps: int = 80,
    repeat: int = 1,
    collector: Any = Collector,
    **kwargs: Any,
) -> tuple[TRPO, TrainingRecorder, VectorReplayBuffer]:
    """Return the algorithm after one update per epoch by Tianshou's trainer, its records and its last rollout."""
    kwargs.setdefault("optim", AdamOptimizerFactory(lr=1e-3))
    algorithm = TRPO(policy=policy, critic=critic, **kwargs)
    envs = DummyVectorEnv([make_env] * 8)
    envs.seed(0)
    buffer = VectorReplayBuffer(4 * steps, 8)
    rollouts: list[VectorReplayBuffer] = []
    own_update = algorithm.update

    def keep_the_rollout(buffer: VectorReplayBuffer, batch_size: int | None, repeat: int) -> Any:
        rollouts[:] = [copy.deepcopy(buffer)]  # the trainer empties it
        return own_update(buffer, batch_size, repeat)

    algorithm.update = keep_the_rollout
    recorder = TrainingRecorder()
    params = OnPolicyTrainerParams(
        training_collector=collector(algorithm, envs, buffer),
        max_epochs=epochs,
        epoch_num_steps=steps,
        collection_step_num_env_steps=steps,
        update_step_num_repetitions=repeat,
        batch_size=None,
        logger=recorder,
        verbose=False,
        show_progress=False,
    )
    algorithm.run_training(params)
    return algorithm, recorder, rollouts[0]


def distribution_of(policy: Any, buffer: VectorReplayBuffer) -> Distribution:
    weight = next(policy.parameters())
    obs = as_tensors(buffer.sample(0)[0].obs, weight.device, weight.dtype)
    with torch.no_grad(), without_validation():
        return PolicyMap(copy.deepcopy(policy).eval())(obs, Batch())


def assert_one_update_keeps_the_promises(observation_space: spaces.Space, policy: Any, critic: nn.Module) -> None:
    torch.manual_seed(0)
    before = copy.deepcopy(policy)
    _, recorder, rollout = train(lambda: env_of(observation_space, policy.action_space), policy, critic)
    (record,) = recorder.updates
    assert record.accepted == 1.0
    kl = float(kl_divergence(distribution_of(before, rollout), distribution_of(policy, rollout)).mean())
    assert 0.0 < kl <= 0.01 * (1.0 + 1e-3)
    assert record.kl == pytest.approx(kl, rel=1e-2)


DISTRIBUTIONS = {
    "gaussian": {},
    "state-dependent std": {"std": "state_dependent"},
    "squashed": {"distribution": "squashed_gaussian"},
    "squashed, state-dependent std": {"distribution": "squashed_gaussian", "std": "state_dependent"},
    "beta": {"distribution": "beta"},
    "gsde": {"distribution": "gsde"},
}
distributions = pytest.mark.parametrize("name", DISTRIBUTIONS)
