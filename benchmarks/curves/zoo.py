"""Learning curves of SB3-contrib's TRPO and SB3's PPO, with the settings of RL Baselines3 Zoo.

The numbers are the Zoo's (``hyperparams/trpo.yml`` and ``ppo.yml``). Where it lists a task in an older version only,
that is taken; where it does not list one, TRPO gets its MuJoCo settings, and PPO the defaults with normalisation.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, sync_envs_normalization
from torch import nn

from curves.protocol import TEST_EPISODES, Curve, Plan

__all__ = ["PPO", "TRPO", "train"]

_TRPO_MUJOCO = {
    "normalize": True,
    "n_envs": 2,
    "batch_size": 128,
    "n_steps": 1024,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "sub_sampling_factor": 1,
    "cg_max_steps": 25,
    "cg_damping": 0.1,
    "n_critic_updates": 20,
    "learning_rate": 1e-3,
}
_TRPO_CONTROL = {"n_envs": 2, "n_steps": 1024}
_GSDE = {"use_sde": True, "sde_sample_freq": 4}
TRPO: dict[str, dict[str, Any]] = {
    "HalfCheetah": {**_TRPO_MUJOCO, "target_kl": 0.04},
    "Swimmer": {**_TRPO_MUJOCO, "gamma": 0.9999},
    "CartPole": {
        "n_envs": 2,
        "n_steps": 512,
        "batch_size": 512,
        "cg_damping": 1e-3,
        "gae_lambda": 0.98,
        "gamma": 0.99,
        "learning_rate": 1e-3,
        "n_critic_updates": 20,
    },
    "Pendulum": {**_TRPO_CONTROL, "gamma": 0.9, "n_critic_updates": 15, **_GSDE},
    "LunarLander": {
        "n_envs": 2,
        "n_steps": 512,
        "cg_damping": 0.01,
        "gae_lambda": 0.98,
        "gamma": 0.99,
        "learning_rate": 1e-3,
        "n_critic_updates": 15,
    },
    "Acrobot": {**_TRPO_CONTROL, "normalize": True},
    "MountainCarContinuous": {"normalize": True, "n_envs": 2, **_GSDE},
}
"""By task; :data:`_TRPO_MUJOCO` for those that are missing."""

_WIDE = {
    "log_std_init": -2,
    "ortho_init": False,
    "activation_fn": nn.ReLU,
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}
_PPO_ONE = {"normalize": True, "n_envs": 1}
PPO: dict[str, dict[str, Any]] = {
    "Ant": {"normalize": True},
    "HalfCheetah": {
        **_PPO_ONE,
        "batch_size": 64,
        "n_steps": 512,
        "gamma": 0.98,
        "learning_rate": 2.0633e-05,
        "ent_coef": 0.000401762,
        "clip_range": 0.1,
        "n_epochs": 20,
        "gae_lambda": 0.92,
        "max_grad_norm": 0.8,
        "vf_coef": 0.58096,
        "policy_kwargs": _WIDE,
    },
    "Hopper": {
        **_PPO_ONE,
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.999,
        "learning_rate": 9.80828e-05,
        "ent_coef": 0.00229519,
        "clip_range": 0.2,
        "n_epochs": 5,
        "gae_lambda": 0.99,
        "max_grad_norm": 0.7,
        "vf_coef": 0.835671,
        "policy_kwargs": _WIDE,
    },
    "Walker2d": {
        **_PPO_ONE,
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.99,
        "learning_rate": 5.05041e-05,
        "ent_coef": 0.000585045,
        "clip_range": 0.1,
        "n_epochs": 20,
        "gae_lambda": 0.95,
        "max_grad_norm": 1,
        "vf_coef": 0.871923,
    },
    "Swimmer": {
        "normalize": True,
        "gamma": 0.9999,
        "n_envs": 4,
        "n_steps": 1024,
        "batch_size": 256,
        "learning_rate": 6e-4,
        "gae_lambda": 0.98,
    },
    "Humanoid": {
        **_PPO_ONE,
        "batch_size": 256,
        "n_steps": 512,
        "gamma": 0.95,
        "learning_rate": 3.56987e-05,
        "ent_coef": 0.00238306,
        "clip_range": 0.3,
        "n_epochs": 5,
        "gae_lambda": 0.9,
        "max_grad_norm": 2,
        "vf_coef": 0.431892,
        "policy_kwargs": _WIDE,
    },
    "Reacher": {
        **_PPO_ONE,
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.9,
        "learning_rate": 0.000104019,
        "ent_coef": 7.52585e-08,
        "clip_range": 0.3,
        "n_epochs": 5,
        "gae_lambda": 1.0,
        "max_grad_norm": 0.9,
        "vf_coef": 0.950368,
    },
    "InvertedPendulum": {
        **_PPO_ONE,
        "batch_size": 64,
        "n_steps": 32,
        "gamma": 0.999,
        "learning_rate": 0.000222425,
        "ent_coef": 1.37976e-07,
        "clip_range": 0.4,
        "n_epochs": 5,
        "gae_lambda": 0.9,
        "max_grad_norm": 0.3,
        "vf_coef": 0.19816,
    },
    "InvertedDoublePendulum": {
        **_PPO_ONE,
        "batch_size": 512,
        "n_steps": 128,
        "gamma": 0.98,
        "learning_rate": 0.000155454,
        "ent_coef": 1.05057e-06,
        "clip_range": 0.4,
        "n_epochs": 10,
        "gae_lambda": 0.8,
        "max_grad_norm": 0.5,
        "vf_coef": 0.695929,
    },
}
"""By task; defaults with normalisation for those that are missing."""


def train(plan: Plan, algorithm: str) -> Curve:
    """Train ``"TRPO"`` or ``"PPO"``, and return the curve."""
    name = plan.task.rpartition("-v")[0]
    settings = dict(TRPO.get(name, _TRPO_MUJOCO) if algorithm == "TRPO" else PPO.get(name, {"normalize": True}))
    settings.update(plan.overrides)
    normalise, count = settings.pop("normalize", False), settings.pop("n_envs", 1)
    env = _vector(plan.task, count, normalise)
    tests = _vector(plan.task, TEST_EPISODES, normalise)
    tests.seed(plan.seed + 10_000)
    if isinstance(tests, VecNormalize):
        tests.training = tests.norm_reward = False
    if algorithm == "TRPO":
        from sb3_contrib import TRPO as Algorithm  # noqa: N811
    else:
        from stable_baselines3 import PPO as Algorithm  # noqa: N811
    model = Algorithm("MlpPolicy", env, seed=plan.seed, device="cpu", **settings)
    curve = Curve()
    # The test at the end happens after the last update.
    callback = _Tests(tests, plan, curve)
    model.learn(plan.steps, callback=callback)
    callback.test()
    return curve


def _vector(task: str, count: int, normalise: bool) -> VecEnv:
    env: VecEnv = DummyVecEnv([lambda: Monitor(gym.make(task)) for _ in range(count)])
    return VecNormalize(env) if normalise else env


class _Tests(BaseCallback):
    """Plays a test before the first rollout that begins at or after each multiple of the interval."""

    def __init__(self, envs: VecEnv, plan: Plan, curve: Curve) -> None:
        super().__init__()
        self._envs, self._every, self._curve = envs, plan.test_every, curve
        self._next = 0
        self._training: list[float] = []

    def _on_step(self) -> bool:
        self._training += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._next:
            self.test()
            self._next = (self.num_timesteps // self._every + 1) * self._every

    def test(self) -> None:
        """Play a test by the mean action, with the observation statistics of the training."""
        if isinstance(self._envs, VecNormalize):
            sync_envs_normalization(self.training_env, self._envs)
        returns, _ = evaluate_policy(self.model, self._envs, TEST_EPISODES, return_episode_rewards=True)
        self._curve.add(self.num_timesteps, float(np.mean(returns)), self._training)
        self._training = []
