"""Learning curves of Tianshou's TRPO, with the settings of its own MuJoCo example.

16 environments of 64 steps per update, two hidden layers of 64 tanh units, orthogonal weights, a standard deviation of
exp(-0.5), normalised observations and returns, 20 critic steps at a rate that falls from 1e-3 to 0, ``max_kl`` 0.01.
Tianshou's scheduler would end below zero, so ours takes its place.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import TRPO
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch import nn
from torch.distributions import Independent, Normal

from curves.ours import curve_of
from curves.protocol import TEST_EPISODES, Curve, Plan
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.training import LinearDecay

__all__ = ["train"]

_ENVS, _ROLLOUT = 16, 1024


def train(plan: Plan) -> Curve:
    """Train Tianshou's TRPO, and return the curve."""
    torch.manual_seed(plan.seed)
    np.random.seed(plan.seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    envs = VectorEnvNormObs(DummyVectorEnv([lambda: gym.make(plan.task) for _ in range(_ENVS)]))
    test_envs = VectorEnvNormObs(
        DummyVectorEnv([lambda: gym.make(plan.task) for _ in range(TEST_EPISODES)]), update_obs_rms=False
    )
    test_envs.set_obs_rms(envs.get_obs_rms())
    envs.seed([1000 * plan.seed + i for i in range(_ENVS)])
    test_envs.seed([1000 * plan.seed + 500 + i for i in range(TEST_EPISODES)])
    epochs = -(-plan.steps // plan.test_every)
    algorithm = _algorithm(gym.make(plan.task), LinearDecay(epochs, plan.test_every, _ROLLOUT))
    recorder = TrainingRecorder()
    params = OnPolicyTrainerParams(
        training_collector=Collector[CollectStats](algorithm, envs, VectorReplayBuffer(4096, _ENVS)),
        test_collector=Collector[CollectStats](algorithm, test_envs),
        max_epochs=epochs,
        epoch_num_steps=plan.test_every,
        collection_step_num_env_steps=_ROLLOUT,
        test_step_num_episodes=TEST_EPISODES,
        batch_size=None,
        logger=recorder,
        verbose=False,
        show_progress=False,
    )
    algorithm.run_training(params)
    return curve_of(recorder)


def _algorithm(env: gym.Env[Any, Any], schedule: LinearDecay) -> TRPO:
    """Return the algorithm of the example."""
    shapes = {"state_shape": env.observation_space.shape, "hidden_sizes": [64, 64], "activation": nn.Tanh}
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(**shapes), action_shape=env.action_space.shape, unbounded=True
    )
    critic = ContinuousCritic(preprocess_net=Net(**shapes))
    nn.init.constant_(actor.sigma_param, -0.5)
    for module in [*actor.modules(), *critic.modules()]:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, gain=np.sqrt(2))
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in actor.mu.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(0.01)
    policy = ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda loc_scale: Independent(Normal(*loc_scale), 1),
        action_scaling=True,
        action_bound_method="clip",
        action_space=env.action_space,
    )
    return TRPO(
        policy=policy,
        critic=critic,
        optim=AdamOptimizerFactory(lr=1e-3).with_lr_scheduler_factory(schedule),
        gamma=0.99,
        gae_lambda=0.95,
        return_scaling=True,
        advantage_normalization=True,
        optim_critic_iters=20,
        max_kl=0.01,
        backtrack_coeff=0.8,
        max_backtracks=10,
    )
