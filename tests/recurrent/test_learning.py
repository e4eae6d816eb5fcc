"""A task of memory: what was seen at the first step is asked for at the last."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts import TRPO
from trpo_ts.collectors import RolloutCollector
from trpo_ts.critics import make_critic, make_recurrent_critic
from trpo_ts.policies import make_policy, make_recurrent_policy

CUES, DELAY = 4, 6


class Recall(gym.Env[np.ndarray, int]):
    """One of four cues, then nothing, then a question; the answer to it pays 1 where it is the cue."""

    observation_space = spaces.Box(0.0, 1.0, (CUES + 1,), np.float32)
    action_space = spaces.Discrete(CUES)

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.cue, self.time = int(self.rng.integers(CUES)), 0
        return np.eye(CUES + 1, dtype=np.float32)[self.cue], {}

    def step(self, action: int) -> Any:
        asked = self.time == DELAY - 1
        self.time += 1
        obs = np.zeros(CUES + 1, np.float32)
        obs[-1] = self.time == DELAY - 1
        return obs, float(asked and action == self.cue), asked, False, {}


def answers(policy: Any, critic: Any, updates: int) -> float:
    """Train, and return the share of right answers of the policy's modes."""
    algorithm = TRPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=3e-3), max_kl=0.03, gamma=1.0)
    envs = DummyVectorEnv([lambda i=i: Recall(i) for i in range(16)])
    buffer = VectorReplayBuffer(512, 16)
    collector = RolloutCollector(policy, envs, buffer)
    collector.reset()
    for _ in range(updates):
        buffer.reset(keep_statistics=True)
        with policy_within_training_step(policy):
            collector.collect(n_step=512)  # 32 steps of each environment: episodes run on into the next rollout
            algorithm.update(buffer, None, 1)
    test = RolloutCollector(policy, DummyVectorEnv([lambda i=i: Recall(1000 + i) for i in range(16)]))
    test.reset()
    return float(test.collect(n_episode=400).returns.mean())


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_policy_with_a_memory_learns_to_recall(cell: str) -> None:
    torch.manual_seed(0)
    spaces_ = (Recall.observation_space, Recall.action_space)
    policy = make_recurrent_policy(*spaces_, cell=cell, hidden_size=16, encoder_sizes=(16,), hidden_sizes=(16,))
    critic = make_recurrent_critic(spaces_[0], cell=cell, hidden_size=16, encoder_sizes=(16,), hidden_sizes=(16,))
    assert answers(policy, critic, updates=40) > 0.95


def test_a_policy_without_memory_stays_at_chance() -> None:
    torch.manual_seed(0)
    policy = make_policy(Recall.observation_space, Recall.action_space, hidden_sizes=(16, 16))
    assert answers(policy, make_critic(Recall.observation_space), updates=40) < 1.0 / CUES + 0.1
