r"""The rollout of one update, typed: a sample of the behaviour policy's states and actions.

The states are distributed as :math:`\rho_{\theta_{old}}`, the state visitation distribution (arXiv:1502.05477, section
2), without its discount (deviation 10 in ``docs/trpo.md``): each is drawn by following the policy (section 5.1, "single
path").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from tianshou.data import Batch, ReplayBuffer
from tianshou.data.types import RolloutBatchProtocol
from torch import Tensor, nn

from trpo_ts.autodiff.ranks import Shard
from trpo_ts.autodiff.rows import Rows
from trpo_ts.network_inputs import NetworkInput, as_tensors, rows_of
from trpo_ts.recurrent.sequences import Sequences

__all__ = ["Rollout", "Transitions", "are_numbers", "continuing_rows"]


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """What was recorded, row by row.

    :param obs: observations as the environments returned them: an array ``(N, ...)`` or a nested batch of such.
    :param obs_next: the observations that followed, likewise.
    :param policy_obs: the observations as the policy takes them.
    :param act: actions, shape ``(N, ...)``.
    :param info: the environments' infos, as NumPy arrays; empty where an environment gives none.
    :param ends: whether a row is the last of an episode, or of what the rollout holds of it, boolean, shape ``(N,)``.
    :param unfinished: whether a row is the last of an episode that continues after the rollout, shape ``(N,)``.
    :param env: the number of the environment, shape ``(N,)``.
    :param consecutive: whether the next row is the next step of the same environment, boolean, shape ``(N - 1,)``.
    :param continues: where a row's next observation is the following row's observation, bit for bit, boolean, shape
        ``(N,)``; there V(s') need not be computed again.
    :param sequences: for a policy with a memory, how it went through the rows; None for one without.
    :param shard: the rows as a part of those of all ranks; None in a single process.
    :param sequence_shard: the sequences, likewise.
    """

    obs: Any
    obs_next: Any
    policy_obs: NetworkInput
    act: Tensor
    info: Batch
    ends: np.ndarray
    unfinished: np.ndarray
    env: np.ndarray
    consecutive: np.ndarray
    continues: np.ndarray
    sequences: Sequences | None = None
    shard: Shard | None = None
    sequence_shard: Shard | None = None

    def __len__(self) -> int:
        """Return the number of rows, N."""
        return len(self.act)

    @property
    def starts(self) -> Tensor | None:
        """Where the policy's sequences begin; None where each row is independent of the others."""
        return None if self.sequences is None else self.sequences.starts

    def with_sequences(self, sequences: Sequences | None) -> Transitions:
        """Return the transitions of a policy that went through them in these sequences."""
        return replace(self, sequences=sequences)

    def policy_inputs(self, rows: Rows) -> tuple[Any, Batch, Sequences | None]:
        """Return the arguments of :class:`trpo_ts.policy_map.PolicyMap` for some rows."""
        sequences = None if self.sequences is None else self.sequences[rows]
        info = self.info if len(self.info.get_keys()) == 0 else rows_of(self.info, rows)
        return self.policy_obs[rows], info, sequences

    @classmethod
    def of_batch(
        cls,
        batch: RolloutBatchProtocol,
        buffer: ReplayBuffer,
        indices: np.ndarray,
        *,
        actor: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Transitions:
        """Return the transitions of Tianshou's batch.

        :param batch: the batch.
        :param buffer: the buffer it is from.
        :param indices: where in the buffer, shape ``(N,)``.
        :param actor: the network that takes the observations.
        :param device: its device.
        :param dtype: its floating dtype.
        """
        unfinished = np.isin(indices, buffer.unfinished_index())
        env = np.searchsorted(buffer.subbuffer_edges, indices, side="right") - 1
        return cls(
            obs=batch.obs,
            obs_next=batch.obs_next,
            policy_obs=NetworkInput(actor, batch.obs, device=device, dtype=dtype),
            act=as_tensors(batch.act, device, dtype),
            info=cast(Batch, batch.info),
            ends=batch.terminated | batch.truncated | unfinished,
            unfinished=unfinished,
            env=env,
            consecutive=(np.diff(indices) == 1) & (np.diff(env) == 0),
            continues=continuing_rows(batch.obs, batch.obs_next),
        )


@dataclass(frozen=True, kw_only=True)
class Rollout(Transitions):
    """The transitions, and what the critic makes of them.

    :param adv: advantages as the objective takes them, shape ``(N,)``.
    :param returns: the critic's targets, in its unit, shape ``(N,)``.
    :param values: V(s) before the critic's fit, in the same unit, shape ``(N,)``.
    :param critic_obs: the observations as the critic takes them, sliceable by row.
    :param explained_variance: of the returns by the values, over all ranks.
    :param critic_sequence_shard: the critic's sequences as a part of those of all ranks, for one with a memory.
    """

    adv: Tensor
    returns: Tensor
    values: Tensor
    critic_obs: Any
    explained_variance: float
    critic_sequence_shard: Shard | None = None


def continuing_rows(obs: Any, obs_next: Any) -> np.ndarray:
    """Return where a row's next observation is the following row's observation, bit for bit; shape ``(N,)``.

    Comparing the observations themselves needs no knowledge of how the buffer lays out its environments. Rows of any
    other kind of observation than numbers are taken not to continue.

    :param obs: observations as an array ``(N, ...)``, a tensor, or nested batches of such.
    :param obs_next: the next observations, likewise.
    """
    if isinstance(obs, Batch) and isinstance(obs_next, Batch) and len(obs.get_keys()) > 0:
        parts = [continuing_rows(item, obs_next.get(key)) for key, item in obs.items()]
        return np.asarray(np.logical_and.reduce(parts))
    same = np.zeros(len(obs), dtype=bool)
    if isinstance(obs, Tensor) and isinstance(obs_next, Tensor):
        obs, obs_next = obs.cpu().numpy(), obs_next.cpu().numpy()
    if are_numbers(obs) and are_numbers(obs_next) and obs.shape == obs_next.shape:
        equal = obs_next[:-1] == obs[1:]
        same[:-1] = equal.reshape(len(equal), -1).all(axis=1) if equal.size else True
    return same


def are_numbers(value: Any) -> bool:
    """Whether observations are numbers throughout: arrays, tensors, or nested batches of such."""
    if isinstance(value, Batch):
        return len(value.get_keys()) > 0 and all(are_numbers(item) for _, item in value.items())
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")
