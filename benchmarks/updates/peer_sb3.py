"""SB3-contrib's TRPO as a side."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import TRPO as SB3TRPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from updates.peer import PeerRollout, copy_linears, linears, restore_moments
from updates.start import Start
from updates.training import CRITIC_STEPS, LEARNING_RATE, N_ENVS

__all__ = ["StableBaselinesSide"]


class _Spaces(gym.Env[Any, Any]):
    """The spaces of an environment; nothing is collected here."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.observation_space, self.action_space = env.observation_space, env.action_space


class StableBaselinesSide:
    """`train()` of SB3-contrib's TRPO, and the advantages, which it computes at the end of collecting.

    :param start: networks of linear layers with tanh between them.
    :param epochs: passes of the critic's fit over the rollout.
    :param batch_size: of the critic's fit; None takes the whole rollout.
    """

    validates = True

    def __init__(self, start: Start, epochs: int = CRITIC_STEPS, batch_size: int | None = None) -> None:
        self._start = start
        hidden = [layer.out_features for layer in linears(start.networks["critic"])[:-1]]
        samples = len(start.rollout)
        self._model = SB3TRPO(
            "MlpPolicy",
            DummyVecEnv([lambda: _Spaces(start.env)] * N_ENVS),
            learning_rate=LEARNING_RATE,
            n_steps=samples // N_ENVS,
            batch_size=batch_size or samples,
            n_critic_updates=epochs,
            cg_max_steps=10,
            # The default eps of SB3's Adam is 1e-5, that of torch's 1e-8.
            policy_kwargs={"net_arch": hidden, "optimizer_kwargs": {"eps": 1e-8}},
            device="cpu",
        )
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        policy = self._model.policy
        self._actor = linears(policy.mlp_extractor.policy_net, policy.action_net)
        self._critic = linears(policy.mlp_extractor.value_net, policy.value_net)
        rollout = PeerRollout.of(start, self._model.gamma)
        self._last = {"last_values": rollout.last_values, "dones": rollout.ends[-1]}
        self._filled = self._model.rollout_buffer
        starts = np.concatenate([np.zeros((1, N_ENVS), dtype=bool), rollout.ends[:-1]])
        for t in range(len(starts)):
            self._filled.add(
                rollout.obs[t], rollout.act[t], rollout.rewards[t], starts[t], rollout.values[t], rollout.log_probs[t]
            )

    def reset(self) -> None:
        """See `Side`."""
        networks = self._start.networks
        copy_linears(linears(networks["policy"]), self._actor)
        copy_linears(linears(networks["critic"]), self._critic)
        with torch.no_grad():
            self._model.policy.log_std.copy_(networks["policy"].actor.sigma.log_std)
        restore_moments(self._start, self._model.policy.optimizer, self._critic)
        # An update flattens the arrays of its buffer, in which it does not write: the copy has its own names for them.
        self._model.rollout_buffer = copy.copy(self._filled)

    def update(self) -> None:
        """See `Side`."""
        self._model.rollout_buffer.compute_returns_and_advantage(**self._last)
        self._model.train()

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """See `Side`."""
        policy, critic = (copy.deepcopy(self._start.networks[name]) for name in ("policy", "critic"))
        copy_linears(self._actor, linears(policy))
        copy_linears(self._critic, linears(critic))
        with torch.no_grad():
            policy.actor.sigma.log_std.copy_(self._model.policy.log_std)
        return policy, critic

    def products(self) -> float:
        """See `Side`."""
        return float(self._model.cg_max_steps)
