"""What libraries other than Tianshou need to begin at the same start: parameters, moments and rollout in their form."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts import TRPO
from updates.sides import Side
from updates.start import N_ENVS, Start


def linears(*modules: nn.Module) -> list[nn.Linear]:
    """Return the linear layers, from input to output."""
    return [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]


class Peer(Side):
    """Copies the start into a library's networks, which are linear layers with tanh between them, and back.

    :param policy: the library's layers of the policy's mean.
    :param critic: those of the critic.
    :param optimizer: the critic's.
    """

    def __init__(
        self,
        start: Start,
        policy: list[nn.Linear],
        critic: list[nn.Linear],
        log_std: Tensor,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._start, self._log_std, self._optimizer = start, log_std, optimizer
        self._layers = {"policy": policy, "critic": critic}

    def reset(self) -> None:
        """See `Side`."""
        algorithm = self._start.algorithm(TRPO)
        for name, layers in self._layers.items():
            _copy(linears(getattr(algorithm, name)), layers)
        with torch.no_grad():
            self._log_std.copy_(algorithm.policy.actor.sigma.log_std)
        theirs = [p for layer in self._layers["critic"] for p in (layer.weight, layer.bias)]
        moments = (algorithm.optim._optim.state.get(p, {}) for p in algorithm.critic.parameters())
        self._optimizer.state.clear()
        # Adam keeps nothing of a parameter before its first step.
        self._optimizer.state.update({p: own for p, own in zip(theirs, moments, strict=True) if own})

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """See `Side`."""
        found = copy.deepcopy(self._start.networks)
        for name, layers in self._layers.items():
            _copy(layers, linears(found[name]))
        with torch.no_grad():
            found["policy"].actor.sigma.log_std.copy_(self._log_std)
        return found["policy"], found["critic"]


def _copy(source: list[nn.Linear], target: list[nn.Linear]) -> None:
    for a, b in zip(source, target, strict=True):
        b.load_state_dict(a.state_dict())


def peer_rollout(start: Start, gamma: float) -> Batch:
    r"""Return the start's rollout as arrays of shape ``(T, 16, ...)``, with the advantages that Tianshou would compute.

    Rewards are divided by the scale of returns. What Tianshou takes as the value of the state after a truncation is
    added to its reward, times :math:`\gamma`, as SB3-contrib and skrl do; the truncation then ends the episode.
    """
    batch, _ = start.rollout.sample(0)
    policy, critic = start.networks["policy"], start.networks["critic"]
    with torch.no_grad():
        values, next_values = (critic(obs).flatten() for obs in (batch.obs, batch.obs_next))
        log_probs = policy(Batch(obs=batch.obs, info=batch.info)).dist.log_prob(torch.as_tensor(batch.act))
    cut = batch.truncated & ~batch.terminated
    rewards = batch.rew / math.sqrt(start.return_statistics.var + 1e-8) + gamma * next_values.numpy() * cut

    def by_time(x: Any) -> Tensor:
        """Tianshou has one environment after the other."""
        return torch.as_tensor(x).reshape(N_ENVS, -1, *x.shape[1:]).swapaxes(0, 1)

    return Batch(
        obs=by_time(batch.obs.astype(np.float32)),
        act=by_time(batch.act),
        rewards=by_time(rewards.astype(np.float32)),
        ends=by_time(batch.terminated | batch.truncated),
        values=by_time(values),
        log_probs=by_time(log_probs),
        next_obs=by_time(batch.obs_next.astype(np.float32)),
        next_values=by_time(next_values),
    )
