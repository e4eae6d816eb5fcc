"""Whole trainings, small enough for tests, and how to compare what they leave."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from random_trainings import bits
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs

from trpo_ts import TRPO
from trpo_ts.collectors import VectorEnvNormReward
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy
from trpo_ts.training import FiniteVectorEnv, LinearDecay, trainer_params

__all__ = ["ENVS", "HORIZON", "ROLLOUT", "STEPS", "UPDATES", "bits", "make_run", "timeless"]

EPOCHS, STEPS, ROLLOUT, ENVS = 2, 96, 32, 4
UPDATES = EPOCHS * STEPS // ROLLOUT
HORIZON = 20


def make_run(
    task: str = "PointMass1D-v0",
    *,
    seed: int = 0,
    tests: bool = True,
    normalised: bool = True,
    rewards: bool = False,
    vector: Any = DummyVectorEnv,
    collector: Any = Collector,
    hidden: tuple[int, ...] = (8,),
    **params: Any,
) -> tuple[TRPO, Any]:
    """Return an algorithm and trainer parameters of a short training with everything that has a state."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    env = gym.make(task)

    def make_env() -> gym.Env[Any, Any]:
        return gym.make(task, max_episode_steps=HORIZON)

    training_envs = FiniteVectorEnv(vector([make_env] * ENVS))
    test_envs = DummyVectorEnv([make_env] * 2)
    training_envs.seed(seed)
    test_envs.seed(seed + 100)
    if rewards:
        training_envs = VectorEnvNormReward(training_envs)
    if normalised:
        training_envs = VectorEnvNormObs(training_envs)
        test_envs = VectorEnvNormObs(test_envs, update_obs_rms=False)
        test_envs.set_obs_rms(training_envs.get_obs_rms())
    schedule = LinearDecay(EPOCHS, STEPS, ROLLOUT)
    algorithm = TRPO(
        policy=make_policy(env.observation_space, env.action_space, hidden_sizes=hidden),
        critic=make_critic(env.observation_space, hidden_sizes=(8,)),
        optim=AdamOptimizerFactory(lr=1e-2).with_lr_scheduler_factory(schedule),
        return_scaling=True,
    )
    defaults = {
        "training_collector": collector(algorithm, training_envs, VectorReplayBuffer(2048, ENVS)),
        "test_collector": collector(algorithm, test_envs) if tests else None,
        "test_step_num_episodes": 2,
        "max_epochs": EPOCHS,
        "epoch_num_steps": STEPS,
        "collection_step_num_env_steps": ROLLOUT,
        "batch_size": 32,  # minibatches are shuffled by NumPy's global generator
        "verbose": False,
        "show_progress": False,
    }
    return algorithm, trainer_params(**{**defaults, **params})


def timeless(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a checkpoint without what a clock measured."""
    if "run" in state:
        progress = state["run"]["progress"]
        del progress["seconds"], progress["counters"]["policy_update_time"]
        for collector in state["run"]["collectors"].values():
            collector["totals"].pop()
    return state
