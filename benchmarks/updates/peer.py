"""What libraries other than Tianshou need to begin at the same start: parameters, moments and rollout in their form."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor, nn

from updates.start import Start
from updates.training import N_ENVS

__all__ = ["PeerRollout", "copy_linears", "linears", "restore_moments"]


def linears(*modules: nn.Module) -> list[nn.Linear]:
    """Return the linear layers, from input to output."""
    return [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]


def copy_linears(source: Sequence[nn.Linear], target: Sequence[nn.Linear]) -> None:
    """Copy the parameters of linear layers."""
    for a, b in zip(source, target, strict=True):
        b.load_state_dict(a.state_dict())


def restore_moments(start: Start, optimizer: torch.optim.Optimizer, critic: Sequence[nn.Linear]) -> None:
    """Give the critic's optimiser of a peer the moments of the start, and no others."""
    own = [p for layer in critic for p in (layer.weight, layer.bias)]
    optimizer.state.clear()
    optimizer.state.update(
        {p: copy.deepcopy(moments) for p, moments in zip(own, start.moments(), strict=True) if moments}
    )


@dataclass(frozen=True)
class PeerRollout:
    r"""A rollout as arrays of shape ``(T, 16, ...)``, with the advantages that Tianshou would compute.

    Rewards are divided by the scale of returns. What Tianshou takes as the value of the state after a truncation is
    added to its reward, times :math:`\gamma`, as SB3-contrib and skrl do; the truncation then ends the episode.

    :param last_values: the values of the states after the last step, shape ``(16,)``.
    """

    obs: np.ndarray
    act: np.ndarray
    rewards: np.ndarray
    ends: np.ndarray
    values: Tensor
    log_probs: Tensor
    last_obs: np.ndarray
    last_values: Tensor

    @classmethod
    def of(cls, start: Start, gamma: float) -> PeerRollout:
        """Return the start's rollout."""
        batch, _ = start.rollout.sample(0)
        policy, critic = start.networks["policy"], start.networks["critic"]
        with torch.no_grad():
            values, next_values = (critic(obs).flatten() for obs in (batch.obs, batch.obs_next))
            act = torch.as_tensor(batch.act)
            log_probs = policy(Batch(obs=batch.obs, info=batch.info)).dist.log_prob(act)
        rewards = batch.rew / math.sqrt(start.return_statistics.var + 1e-8)
        cut = batch.truncated & ~batch.terminated
        rewards = rewards + gamma * next_values.numpy() * cut

        def by_time(x: Any) -> Any:
            """Tianshou has one environment after the other."""
            return x.reshape(N_ENVS, -1, *x.shape[1:]).swapaxes(0, 1)

        return cls(
            obs=by_time(batch.obs).astype(np.float32),
            act=by_time(batch.act),
            rewards=by_time(rewards).astype(np.float32),
            ends=by_time(batch.terminated | batch.truncated),
            values=by_time(values),
            log_probs=by_time(log_probs),
            last_obs=by_time(batch.obs_next)[-1].astype(np.float32),
            last_values=by_time(next_values)[-1],
        )
