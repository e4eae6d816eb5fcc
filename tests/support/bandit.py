"""One update on a rollout of a policy whose networks are hand-written, and the divergence measured from outside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, VectorReplayBuffer
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from trpo_ts import TRPO, TRPOTrainingStats
from trpo_ts.critics import make_critic

ENVS, STEPS, INPUTS = 8, 32, 2


def as_float(obs: Any) -> Tensor:
    return torch.as_tensor(obs, dtype=torch.float32)


def joint_normal(loc_scale: tuple[Tensor, Tensor]) -> Distribution:
    return Independent(Normal(*loc_scale), 1)


class Actor(nn.Module):
    """A Gaussian actor that takes its observations through a function."""

    def __init__(self, read: Callable[[Any], Tensor] = as_float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(INPUTS, 16), nn.Tanh(), nn.Linear(16, 1))
        self.log_std = nn.Parameter(torch.full((1,), -0.5))
        self.read = read

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[tuple[Tensor, Tensor], Any]:
        mean = self.net(self.read(obs))
        return (mean, self.log_std.exp().expand_as(mean)), state


class Critic(nn.Module):
    """A value network that takes its observations through a function."""

    def __init__(self, read: Callable[[Any], Tensor] = as_float) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(INPUTS, 16), nn.Linear(16, 1)
        self.read = read

    def forward(self, obs: Any) -> Tensor:
        return self.last(torch.tanh(self.hidden(self.read(obs))))


def observations(seed: int = 0, offset: float = 0.0, dtype: str = "float32") -> np.ndarray:
    """Return observations ``(STEPS + 1, ENVS, INPUTS)``."""
    return (offset + np.random.default_rng(seed).uniform(-1, 1, (STEPS + 1, ENVS, INPUTS))).astype(dtype)


def make_algorithm(
    actor: nn.Module | None = None,
    critic: nn.Module | None = None,
    dist_fn: Callable[..., Distribution] = joint_normal,
    **settings: Any,
) -> TRPO:
    box = spaces.Box(-np.inf, np.inf, (INPUTS,), np.float32)
    policy = ProbabilisticActorPolicy(
        actor=actor or Actor(), dist_fn=dist_fn, action_space=spaces.Box(-1, 1, (1,)), observation_space=box
    )
    chosen = {"gamma": 0.9, "max_kl": 0.02, "optim": AdamOptimizerFactory(lr=1e-2), **settings}
    return TRPO(policy=policy, critic=critic or make_critic(box), **chosen)


def acted(policy: nn.Module, obs: Any) -> Distribution:
    """Return the distribution by which the policy acts, from its own copy of the observations."""
    with torch.no_grad():
        return policy(Batch(obs=copy.deepcopy(obs), info=Batch())).dist


def rollout(policy: nn.Module, obs: np.ndarray) -> VectorReplayBuffer:
    """Return a buffer of actions drawn from the policy; the reward is highest near the first observation."""
    buffer = VectorReplayBuffer(STEPS * ENVS, ENVS)
    for t in range(STEPS):
        act = acted(policy, obs[t]).sample().numpy()
        done = np.full(ENVS, t % 16 == 15)
        centred = obs[t][:, 0].astype(np.float64) - float(np.mean(obs))
        step = Batch(
            obs=obs[t],
            act=act,
            rew=-((act[:, 0] - centred) ** 2),
            terminated=np.zeros(ENVS, bool),
            truncated=done,
            done=done,
            obs_next=obs[t + 1],
            info=Batch(),
        )
        buffer.add(step, buffer_ids=np.arange(ENVS))
    return buffer


def update(algorithm: TRPO, buffer: VectorReplayBuffer, **arguments: Any) -> TRPOTrainingStats:
    with policy_within_training_step(algorithm.policy):
        return algorithm.update(buffer, **{"batch_size": None, "repeat": 1, **arguments})


def divergence(before: Distribution, after: Distribution) -> float:
    return float(kl_divergence(before, after).mean().detach())


def update_and_measure(algorithm: TRPO, obs: np.ndarray) -> tuple[TRPOTrainingStats, float]:
    """Return an update's stats, and the divergence of the acting policy after it from the one before."""
    buffer = rollout(algorithm.policy, obs)
    recorded = buffer.sample(0)[0].obs
    before = acted(algorithm.policy, recorded)
    stats = update(algorithm, buffer)
    return stats, divergence(before, acted(algorithm.policy, recorded))


def everything(algorithm: TRPO) -> dict[str, Any]:
    """Return what an update may change, copied."""
    return copy.deepcopy({**algorithm.state_dict(), "ret_rms": vars(algorithm.ret_rms)})


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key, value in left.items():
            assert_same(value, right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert left == right
