"""Each worker has an environment of its own."""

from __future__ import annotations

import gymnasium as gym
import pytest
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, SubprocVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy
from trpo_ts.validation.environment_checks import check_separate_environments


def test_one_environment_for_all_workers_is_refused():
    env = gym.make("CartPole-v1")
    shared = DummyVectorEnv([lambda: env] * 3)
    for envs in (shared, VectorEnvNormObs(shared)):
        with pytest.raises(ValueError, match="got 1 for 3 workers"):
            check_separate_environments(envs)


def test_wrappers_of_one_environment_are_seen_through():
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="got 1 for 2 workers"):
        check_separate_environments(DummyVectorEnv([lambda: gym.wrappers.TimeLimit(env, 10)] * 2))


def test_separate_environments_and_processes_pass():
    check_separate_environments(DummyVectorEnv([lambda: gym.make("CartPole-v1")] * 3))
    envs = SubprocVectorEnv([lambda: gym.make("CartPole-v1")] * 2)
    check_separate_environments(envs)
    envs.close()


def test_a_training_does_not_begin():
    env = gym.make("CartPole-v1")
    algorithm = TRPO(
        policy=make_policy(env.observation_space, env.action_space),
        critic=make_critic(env.observation_space),
        optim=AdamOptimizerFactory(lr=1e-3),
    )
    collector = Collector(algorithm, DummyVectorEnv([lambda: env] * 4), VectorReplayBuffer(64, 4))
    with pytest.raises(ValueError, match="env must have an environment of its own for each worker"):
        algorithm.run_training(
            OnPolicyTrainerParams(
                training_collector=collector, max_epochs=1, epoch_num_steps=64, collection_step_num_env_steps=64
            )
        )
