"""SB3-contrib's TRPO as a side."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib import TRPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from updates.peer import Peer, linears, peer_rollout
from updates.start import CRITIC_STEPS, LEARNING_RATE, N_ENVS, Start


class _Spaces(gym.Env[Any, Any]):
    """The spaces of a policy; nothing is collected here."""

    def __init__(self, policy: Any) -> None:
        self.observation_space, self.action_space = policy.observation_space, policy.action_space


class PeerSide(Peer):
    """`train()` of SB3-contrib's TRPO, and the advantages, which it computes at the end of collecting.

    :param epochs: passes of the critic's fit over the rollout.
    :param batch_size: of the critic's fit; None takes the whole rollout.
    """

    def __init__(self, start: Start, epochs: int = CRITIC_STEPS, batch_size: int | None = None) -> None:
        samples = len(start.rollout)
        hidden = [layer.out_features for layer in linears(start.networks["critic"])[:-1]]
        self._model = TRPO(
            "MlpPolicy",
            DummyVecEnv([lambda: _Spaces(start.networks["policy"])] * N_ENVS),
            learning_rate=LEARNING_RATE,
            n_steps=samples // N_ENVS,
            batch_size=batch_size or samples,
            n_critic_updates=epochs,
            cg_max_steps=int(self.products),
            # The default eps of SB3's Adam is 1e-5, that of torch's 1e-8.
            policy_kwargs={"net_arch": hidden, "optimizer_kwargs": {"eps": 1e-8}},
            device="cpu",
        )
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        policy, trunk = self._model.policy, self._model.policy.mlp_extractor
        actor, critic = linears(trunk.policy_net, policy.action_net), linears(trunk.value_net, policy.value_net)
        super().__init__(start, actor, critic, policy.log_std, policy.optimizer)
        rollout = peer_rollout(start, self._model.gamma)
        ends = rollout.ends.numpy()
        self._last = {"last_values": rollout.next_values[-1], "dones": ends[-1]}
        self._filled = self._model.rollout_buffer
        starts = np.concatenate([np.zeros((1, N_ENVS), dtype=bool), ends[:-1]])
        arrays = (rollout[name].numpy() for name in ("obs", "act", "rewards"))
        for transition in zip(*arrays, starts, rollout.values, rollout.log_probs, strict=True):
            self._filled.add(*transition)

    def reset(self) -> None:
        """See `Side`."""
        super().reset()
        # An update flattens the arrays of its buffer, in which it does not write: the copy has its own names for them.
        self._model.rollout_buffer = copy.copy(self._filled)

    def update(self) -> None:
        """See `Side`."""
        self._model.rollout_buffer.compute_returns_and_advantage(**self._last)
        self._model.train()
