"""Rollouts, policies and updates that the tests share; nothing here needs an environment."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, SequenceSummaryStats, VectorReplayBuffer
from tianshou.utils.torch_utils import policy_within_training_step
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence

from trpo_ts import TRPO

OBS_DIM, ACT_DIM, N_ACTIONS = 3, 2, 4
BOX = spaces.Box(-1.0, 1.0, (ACT_DIM,), np.float32)
DISCRETE = spaces.Discrete(N_ACTIONS)
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)


class Mlp(nn.Module):
    """A plain actor or critic body of any dtype; Tianshou's own networks always compute in float32."""

    def __init__(self, sizes: tuple[int, ...], activation: type[nn.Module] = nn.Tanh) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Linear(n_in, n_out)] + ([activation()] if i < len(sizes) - 2 else [])
        self.layers = nn.Sequential(*layers)

    def forward(self, obs: Any) -> torch.Tensor:
        weight = next(self.parameters())
        return self.layers(torch.as_tensor(obs, dtype=weight.dtype, device=weight.device))


class Actor(nn.Module):
    """Tianshou's calling convention around a body: logits, or mean and standard deviation."""

    def __init__(self, body: nn.Module, log_std: float | None) -> None:
        super().__init__()
        self.body = body
        self.log_std = None if log_std is None else nn.Parameter(torch.full((ACT_DIM,), log_std))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        out = self.body(obs)
        if self.log_std is None:
            return out, state
        return (out, self.log_std.exp().expand_as(out)), state


def gaussian(loc_scale: tuple[torch.Tensor, torch.Tensor]) -> Distribution:
    return Independent(Normal(*loc_scale), 1)


def categorical(logits: torch.Tensor) -> Distribution:
    return Categorical(logits=logits)


def make_actor_policy(
    discrete: bool = False,
    hidden: tuple[int, ...] = (8,),
    dtype: torch.dtype = torch.float32,
    log_std: float = -0.5,
    activation: type[nn.Module] = nn.Tanh,
    actor: nn.Module | None = None,
) -> ProbabilisticActorPolicy:
    body = Mlp((OBS_DIM, *hidden, N_ACTIONS if discrete else ACT_DIM), activation)
    return ProbabilisticActorPolicy(
        actor=(actor or Actor(body, None if discrete else log_std)).to(dtype),
        dist_fn=categorical if discrete else gaussian,
        action_space=DISCRETE if discrete else BOX,
        observation_space=OBSERVATIONS,
        action_scaling=False,
        action_bound_method=None,
    )


def make_rollout(
    policy: ProbabilisticActorPolicy,
    n_envs: int = 4,
    length: int = 16,
    seed: int = 0,
    reward_scale: float = 1.0,
    obs_scale: float = 1.0,
    end_probability: float = 0.1,
) -> VectorReplayBuffer:
    """Return a buffer of random transitions with the policy's own actions, terminations and truncations."""
    rng = np.random.default_rng(seed)
    buffer = VectorReplayBuffer(n_envs * length, n_envs)
    obs = obs_scale * rng.standard_normal((n_envs, OBS_DIM))
    for _ in range(length):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            act = policy(Batch(obs=obs, info={})).act.cpu().numpy()
        obs_next = 0.9 * obs + 0.5 * obs_scale * rng.standard_normal(obs.shape)
        terminated = rng.random(n_envs) < end_probability
        truncated = ~terminated & (rng.random(n_envs) < end_probability)
        rew = reward_scale * (np.sin(obs.sum(axis=1)) + act.reshape(n_envs, -1).sum(axis=1))
        buffer.add(
            Batch(
                obs=obs,
                act=act,
                rew=rew,
                terminated=terminated,
                truncated=truncated,
                obs_next=obs_next,
                info=Batch(step=np.zeros(n_envs)),
            ),
            buffer_ids=np.arange(n_envs),
        )
        fresh = obs_scale * rng.standard_normal(obs.shape)
        obs = np.where((terminated | truncated)[:, None], fresh, obs_next)
    return buffer


def make_trpo(policy: ProbabilisticActorPolicy, critic: nn.Module | None = None, **kwargs: Any) -> TRPO:
    weight = next(policy.parameters())
    critic = critic or Mlp((OBS_DIM, 8, 1)).to(weight.dtype)
    kwargs.setdefault("optim", AdamOptimizerFactory(lr=1e-3))
    return TRPO(policy=policy, critic=critic, **kwargs)


def update(algorithm: Any, buffer: Any, batch_size: int | None = None, repeat: int = 1) -> Any:
    with policy_within_training_step(algorithm.policy):
        return algorithm.update(buffer, batch_size, repeat)


def parameters_of(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(before: list[torch.Tensor], module: nn.Module) -> bool:
    """Whether the parameters are bitwise what they were."""
    return all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def mean_kl(
    old: ProbabilisticActorPolicy,
    new: ProbabilisticActorPolicy,
    buffer: VectorReplayBuffer,
    micro_batch_size: int | None = None,
) -> float:
    """Return KL(old || new) over the rollout: the networks in their own precision, the divergence in float64.

    A pass of other rows rounds otherwise, so they are split as the update splits them.
    """
    obs = buffer.sample(0)[0].obs
    starts = range(0, len(obs), micro_batch_size or len(obs))

    def distribution(policy: ProbabilisticActorPolicy) -> Distribution:
        actor = copy.deepcopy(policy).eval().actor
        with torch.no_grad():
            outs = [actor(obs[start : start + (micro_batch_size or len(obs))])[0] for start in starts]
        out = tuple(map(torch.cat, zip(*outs, strict=True))) if isinstance(outs[0], tuple) else torch.cat(outs)
        return policy.dist_fn(tuple(part.double() for part in out) if isinstance(out, tuple) else out.double())

    return float(kl_divergence(distribution(old), distribution(new)).mean())


def output_rounding(policy: ProbabilisticActorPolicy, buffer: VectorReplayBuffer) -> float:
    """Return the rounding of the network's outputs: of means in units of standard deviations, or of logits."""
    with torch.no_grad():
        out = copy.deepcopy(policy).eval().actor(buffer.sample(0)[0].obs)[0]
    values, unit = (out[0], out[1].min()) if isinstance(out, tuple) else (out, torch.ones(()))
    return float(torch.finfo(values.dtype).eps * values.abs().max() / unit)


class Bandit(gym.Env[np.ndarray, int]):
    """One step, four arms, the third one pays: the smallest task that can be solved."""

    observation_space = OBSERVATIONS
    action_space = DISCRETE

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(OBS_DIM, np.float32), {}

    def step(self, action: int) -> Any:
        return np.zeros(OBS_DIM, np.float32), float(action == 2), True, False, {}


def assert_finite(stats: object) -> None:
    for field in fields(stats):
        value = getattr(stats, field.name)
        if value is None or isinstance(value, dict):
            continue
        numbers = [value.mean, value.std, value.max, value.min] if isinstance(value, SequenceSummaryStats) else [value]
        assert all(isinstance(n, float | int) and math.isfinite(n) for n in numbers), (field.name, value)
