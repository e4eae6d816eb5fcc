"""A task of one step, for networks that are hard to model: the reward is highest at a function of the observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, ReplayBuffer
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.utils import parametrizations, prune

from trpo_ts import TRPO
from trpo_ts.critics import make_critic

INPUTS, ACTIONS, ROWS = 6, 2, 512
KINDS = ("plain", "large inputs", "weight norm", "pruned", "scripted")


class HardActor(nn.Module):
    """A hand-written Gaussian actor with torch's initialisation."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        layers = [nn.Linear(INPUTS, 32), nn.Linear(32, 32), nn.Linear(32, ACTIONS)]
        if kind == "weight norm":
            layers = [parametrizations.weight_norm(layer) for layer in layers]
        if kind == "pruned":
            layers = [prune.random_unstructured(layer, "weight", amount=0.3) for layer in layers]
        self.net: nn.Module = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
        if kind == "scripted":
            self.net = torch.jit.script(self.net)
        self.log_std = nn.Parameter(torch.full((ACTIONS,), -0.5))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        mean = self.net(torch.as_tensor(obs, dtype=torch.float32))
        return (mean, self.log_std.exp().expand_as(mean)), state


def joint_normal(loc_scale: tuple[Tensor, Tensor]) -> Distribution:
    return Independent(Normal(*loc_scale), 1)


def target(x: np.ndarray) -> np.ndarray:
    return np.tanh(np.stack([x[:, 0] * x[:, 1] + x[:, 2], np.sin(2 * x[:, 3]) - x[:, 4]], axis=1))


def train(kind: str, seed: int, updates: int, **settings: Any) -> list[float]:
    """Return, after each update, the negative mean squared distance of the mean actions from the target."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    space = spaces.Box(-np.inf, np.inf, (INPUTS,), np.float32)
    policy = ProbabilisticActorPolicy(
        actor=HardActor(kind), dist_fn=joint_normal, action_space=spaces.Box(-1, 1, (ACTIONS,)), observation_space=space
    )
    algorithm = TRPO(
        policy=policy,
        critic=make_critic(space),
        optim=AdamOptimizerFactory(lr=3e-3),
        gamma=0.0,
        max_kl=0.02,
        optim_critic_iters=10,
        **settings,
    )
    returns = []
    for _ in range(updates):
        x = rng.uniform(-1, 1, (ROWS, INPUTS)).astype(np.float32)
        obs = 1e4 * x if kind == "large inputs" else x
        with torch.no_grad():
            act = policy(Batch(obs=obs, info=Batch())).dist.sample().numpy()
        with policy_within_training_step(policy):
            algorithm.update(_buffer(obs, act, -((act - target(x)) ** 2).sum(axis=1)), None, 1)
        with torch.no_grad():
            mean = policy(Batch(obs=obs, info=Batch())).dist.mean.numpy()
        returns.append(-float(((mean - target(x)) ** 2).sum(axis=1).mean()))
    return returns


def _buffer(obs: np.ndarray, act: np.ndarray, rew: np.ndarray) -> ReplayBuffer:
    """Return a buffer of episodes of one step."""
    buffer, done = ReplayBuffer(len(obs)), np.ones(len(obs), bool)
    fields = {"terminated": done, "truncated": ~done, "done": done, "info": Batch()}
    buffer.set_batch(Batch(obs=obs, act=act, rew=rew, obs_next=obs, **fields))
    buffer._size, buffer._insertion_idx = len(obs), 0
    return buffer
