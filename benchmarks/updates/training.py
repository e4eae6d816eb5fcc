"""A policy in training, with the settings of Tianshou's MuJoCo example."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts import TRPO, TRPOTrainingStats
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy

__all__ = ["CRITIC_STEPS", "LEARNING_RATE", "N_ENVS", "Training", "networks", "parameters"]

N_ENVS, CRITIC_STEPS, LEARNING_RATE = 16, 20, 1e-3


def parameters() -> dict[str, Any]:
    """Return what Tianshou's TRPO and this one are built with, beside the networks."""
    return {
        "optim": AdamOptimizerFactory(lr=LEARNING_RATE),
        "optim_critic_iters": CRITIC_STEPS,
        "return_scaling": True,
    }


def networks(env: gym.Env[Any, Any], hidden: tuple[int, ...]) -> dict[str, Any]:
    """Return a policy and a critic, perceptrons with these hidden layers."""
    return {
        "policy": make_policy(env.observation_space, env.action_space, hidden_sizes=hidden),
        "critic": make_critic(env.observation_space, hidden_sizes=hidden),
    }


class Training:
    """16 environments in one process, and `TRPO`.

    :param make_env: makes one environment.
    :param make_networks: makes policy and critic for it, after the seed is set.
    :param largest: the most transitions of one collection.
    :param seed: of networks, actions and environments.
    :param normalise: whether observations are normalised by running statistics.
    :param kind: `TRPO`, or what is derived from it.
    :param settings: of `TRPO`, where they are neither its defaults nor :func:`parameters`.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        make_networks: Callable[[gym.Env[Any, Any]], dict[str, Any]],
        largest: int,
        *,
        seed: int = 0,
        normalise: bool = True,
        kind: type[TRPO] = TRPO,
        **settings: Any,
    ) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
        self.algorithm = kind(**make_networks(make_env()), **{**parameters(), **settings})
        envs: Any = DummyVectorEnv([make_env] * N_ENVS)
        envs = VectorEnvNormObs(envs) if normalise else envs
        envs.seed(seed)
        self._collector = Collector[CollectStats](self.algorithm.policy, envs, VectorReplayBuffer(largest, N_ENVS))
        self._collector.reset()

    def collect(self, samples: int) -> VectorReplayBuffer:
        """Return the next transitions, in a buffer of their own."""
        self._collector.reset_buffer(keep_statistics=True)
        with policy_within_training_step(self.algorithm.policy):
            self._collector.collect(n_step=samples)
        return copy.deepcopy(self._collector.buffer)

    def update(self, rollout: VectorReplayBuffer) -> TRPOTrainingStats:
        """Update policy and critic from a rollout."""
        with policy_within_training_step(self.algorithm.policy):
            return cast(TRPOTrainingStats, self.algorithm.update(rollout, None, 1))
