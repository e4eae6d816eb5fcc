"""The sides of a whole training: each collects and updates by the public call of its library.

All have two hidden layers of 64 tanh units for policy and critic (for images each library's own convolutions), max_kl
0.01, gamma 0.99, lambda 0.95, normalised observations for vectors, and no tests. Tianshou's and SB3's critics take 20
steps of Adam on the whole rollout, and their solvers 10 products; ours are the defaults with ``GaussNewtonFit``, where
the name says nothing else.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import tianshou
import torch
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams

from jobs.cases import OURS_ADAM, OURS_BUFFERED, OURS_POOL, OURS_POOL_2, OURS_TIANSHOU, SB3, TIANSHOU, Case
from trpo_ts import TRPO
from trpo_ts.collectors import RolloutCollector, as_vector_env
from trpo_ts.critics import GaussNewtonFit, make_critic
from trpo_ts.envs.envpool_tasks import make_envpool
from trpo_ts.policies import make_policy

CRITIC_STEPS, SEED = 20, 0


class Side(Protocol):
    """A training that can be continued."""

    def train(self, steps: int) -> dict[str, float]:
        """Train for so many environment steps; return the seconds in all, of collecting and of updating."""

    def close(self) -> None:
        """Close the environments."""


def side_of(name: str, case: Case) -> Side:
    """Return a side at the start of its training."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002
    return Sb3Side(case) if name == SB3 else TianshouSide(name, case)


def make_env(task: str) -> gym.Env[Any, Any]:
    """Return an environment; the images are 84 x 84."""
    return gym.make(task, rows=84, columns=84) if task == "Catch-v0" else gym.make(task)


class TianshouSide:
    """An algorithm and a collector of Tianshou's kind, driven by Tianshou's trainer."""

    def __init__(self, name: str, case: Case) -> None:
        self._case = case
        env = make_env(case.task)
        policy = make_policy(env.observation_space, env.action_space)
        critic = make_critic(env.observation_space)
        if name in (OURS_POOL, OURS_POOL_2, OURS_BUFFERED):
            envs: Any = make_envpool(case.task, case.envs, SEED, threads=2 if name == OURS_POOL_2 else 1)
            envs = as_vector_env(envs, double_buffered=name == OURS_BUFFERED and case.envs > 1)
        else:
            envs = DummyVectorEnv([lambda: make_env(case.task)] * case.envs)
            envs.seed(SEED)
        if len(env.observation_space.shape) == 1:
            envs = VectorEnvNormObs(envs)
        kind: Any = tianshou.algorithm.TRPO if name == TIANSHOU else TRPO
        fitted = {"optim_critic_iters": CRITIC_STEPS}
        if name not in (TIANSHOU, OURS_ADAM):
            fitted = {"critic_fit": GaussNewtonFit()}
        rollout = case.envs * case.segment
        self._algorithm = kind(
            policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-3), max_batchsize=rollout, **fitted
        )
        collector: Any = Collector if name in (TIANSHOU, OURS_TIANSHOU) else RolloutCollector
        self._collector = collector(self._algorithm, envs, VectorReplayBuffer(rollout, case.envs))

    def train(self, steps: int) -> dict[str, float]:
        """See `Side`."""
        params = OnPolicyTrainerParams(
            training_collector=self._collector,
            test_collector=None,
            max_epochs=1,
            epoch_num_steps=steps,
            collection_step_num_env_steps=self._case.envs * self._case.segment,
            batch_size=None,
            verbose=False,
            show_progress=False,
        )
        start = time.perf_counter()
        result = self._algorithm.run_training(params)
        seconds = time.perf_counter() - start
        # The time of collecting that Tianshou's trainer reports is that of its off-policy trainer.
        update = result.timing.train_time_update
        return {"seconds": seconds, "collect": seconds - update, "update": update}

    def close(self) -> None:
        """See `Side`."""
        self._collector.close()


class Sb3Side:
    """SB3-contrib's TRPO."""

    def __init__(self, case: Case) -> None:
        import sb3_contrib
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

        env = DummyVecEnv([lambda: make_env(case.task)] * case.envs)
        vector = len(env.observation_space.shape) == 1
        rollout = case.envs * case.segment
        self._model = sb3_contrib.TRPO(
            "MlpPolicy" if vector else "CnnPolicy",
            VecNormalize(env, norm_reward=False) if vector else env,
            n_steps=case.segment,
            batch_size=rollout,
            n_critic_updates=CRITIC_STEPS,
            cg_max_steps=10,
            policy_kwargs={"net_arch": [64, 64]} if vector else {},
            seed=SEED,
            device="cpu",
        )
        self._updating, update = 0.0, self._model.train

        def timed() -> None:
            start = time.perf_counter()
            update()
            self._updating += time.perf_counter() - start

        self._model.train = timed

    def train(self, steps: int) -> dict[str, float]:
        """See `Side`."""
        self._updating, start = 0.0, time.perf_counter()
        self._model.learn(steps, reset_num_timesteps=False)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "collect": seconds - self._updating, "update": self._updating}

    def close(self) -> None:
        """See `Side`."""
        self._model.env.close()
