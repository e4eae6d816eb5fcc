"""Where every side of a comparison begins: the same networks, moments of the critic's Adam, and rollout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, ReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.utils import RunningMeanStd
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy

N_ENVS, CRITIC_STEPS, LEARNING_RATE = 16, 20, 1e-3  # those of Tianshou's MuJoCo example
SYNTHETIC_SPACES = {
    "observation_space": gym.spaces.Box(-np.inf, np.inf, (17,), np.float32),
    "action_space": gym.spaces.Box(-1.0, 1.0, (6,), np.float32),
}
_MANY = 10**12
"""Returns that count as seen: one rollout moves their deviation no more, and all sides have targets in one unit."""


@dataclass(frozen=True)
class Start:
    """What every side begins with.

    :param networks: `policy` and `critic`; sides take copies.
    :param state: the state of an algorithm with these networks, with the moments of the critic's Adam.
    :param return_statistics: the running statistics that `return_scaling` divides by.
    :param rollout: the transitions of the update, as a buffer.
    :param held_out: others of the same policy; None where the rollout is random numbers.
    :param max_batchsize: observations in one pass while Tianshou computes values.
    """

    networks: dict[str, Any]
    state: dict[str, Any]
    return_statistics: RunningMeanStd
    rollout: Any
    held_out: Any
    max_batchsize: int

    @classmethod
    def of(cls, algorithm: TRPO, rollout: Any, held_out: Any = None) -> Start:
        """Return the start at an algorithm as it now is."""
        networks = copy.deepcopy({"policy": algorithm.policy, "critic": algorithm.critic})
        state = {key: value for key, value in algorithm.state_dict().items() if key != "_extra_state"}
        statistics = copy.deepcopy(algorithm.ret_rms)
        statistics.count = _MANY
        return cls(networks, copy.deepcopy(state), statistics, rollout, held_out, algorithm.max_batchsize)

    def algorithm(self, build: Callable[..., Any], **extra: Any) -> Any:
        """Return an algorithm of Tianshou that begins here."""
        algorithm = _algorithm(build, copy.deepcopy(self.networks), max_batchsize=self.max_batchsize, **extra)
        self.restore(algorithm)
        return algorithm

    def restore(self, algorithm: Any) -> None:
        """Bring an algorithm back to here."""
        algorithm.load_state_dict(copy.deepcopy(self.state))
        algorithm.ret_rms = copy.deepcopy(self.return_statistics)


def _algorithm(build: Callable[..., Any], networks: dict[str, Any], **extra: Any) -> Any:
    optim = AdamOptimizerFactory(lr=LEARNING_RATE)
    return build(**networks, optim=optim, optim_critic_iters=CRITIC_STEPS, return_scaling=True, **extra)


def perceptrons(spaces: Any, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Return a policy and a critic with these hidden layers, for the spaces of an environment."""
    return {
        "policy": make_policy(spaces.observation_space, spaces.action_space, hidden_sizes=hidden),
        "critic": make_critic(spaces.observation_space, hidden_sizes=hidden),
    }


def trained_start(
    make_env: Callable[[], gym.Env[Any, Any]],
    make_networks: Callable[[Any], dict[str, Any]],
    samples: int,
    updates: int,
    normalise: bool = True,
) -> Start:
    """Train for so many updates, with observations normalised or not, and collect two rollouts of the policy."""
    _seed()
    algorithm = _algorithm(TRPO, make_networks(make_env()))
    envs: Any = DummyVectorEnv([make_env] * N_ENVS)
    envs = VectorEnvNormObs(envs) if normalise else envs
    envs.seed(0)
    collector = Collector[CollectStats](algorithm.policy, envs, VectorReplayBuffer(samples, N_ENVS))
    collector.reset()

    def collected() -> VectorReplayBuffer:
        collector.reset_buffer(keep_statistics=True)
        collector.collect(n_step=samples)
        return copy.deepcopy(collector.buffer)

    with policy_within_training_step(algorithm.policy):
        for _ in range(updates):
            algorithm.update(collected(), None, 1)
        return Start.of(algorithm, collected(), collected())


def synthetic_start(samples: int, hidden: tuple[int, ...], device: str = "cpu") -> Start:
    """Return a start with networks at their initialisation and a rollout of random numbers."""
    _seed()
    networks = perceptrons(SimpleNamespace(**SYNTHETIC_SPACES), hidden)
    modules = {name: module.to(device) for name, module in networks.items()}
    return Start.of(_algorithm(TRPO, modules, max_batchsize=4096), synthetic_rollout(samples))


def synthetic_rollout(samples: int) -> ReplayBuffer:
    """Return normal observations, actions and rewards of 16 environments, which end by truncation."""
    rng = np.random.default_rng(0)
    observations, actions = (space.shape for space in SYNTHETIC_SPACES.values())
    obs = rng.standard_normal((samples + 1, *observations), dtype=np.float32)
    act = rng.standard_normal((samples, *actions), dtype=np.float32)
    rewards, terminated, ends = (
        rng.standard_normal(samples),
        np.zeros(samples, dtype=bool),
        np.zeros(samples, dtype=bool),
    )
    ends[samples // N_ENVS - 1 :: samples // N_ENVS] = True
    return ReplayBuffer.from_data(obs[:-1], act, rewards, terminated, ends, ends, obs[1:])


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  Tianshou draws from NumPy's global generator
