r"""The rollout of one update as typed tensors: a sample of the behaviour policy's states and actions.

The states are distributed as :math:`\rho_{\theta_{old}}`, the state visitation distribution (arXiv:1502.05477, section
2): each is drawn by following the policy (section 5.1, "single path").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from tianshou.data import Batch, ReplayBuffer
from tianshou.data.types import RolloutBatchProtocol
from torch import Tensor

from trpo_ts.autodiff.rows import Rows
from trpo_ts.recurrent.sequences import Sequences

__all__ = ["Rollout", "Transitions", "as_tensors"]

Observations = Any
"""A tensor ``(N, ...)``, a nested ``Batch`` of such, or what a network of the user's takes; sliceable by row."""


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """What was recorded, row by row.

    :param obs: observations.
    :param obs_next: the observations that followed.
    :param act: actions, shape ``(N, ...)``.
    :param info: the environments' infos, as NumPy arrays; empty where an environment gives none.
    :param ends: whether a row is the last of an episode, or of what the rollout holds of it, boolean, shape ``(N,)``.
    :param unfinished: whether a row is the last of an episode that continues after the rollout, shape ``(N,)``.
    :param env: the number of the environment, shape ``(N,)``.
    :param sequences: for a policy with a memory, how it went through the rows; None for one without.
    """

    obs: Observations
    obs_next: Observations
    act: Tensor
    info: Batch
    ends: np.ndarray
    unfinished: np.ndarray
    env: np.ndarray
    sequences: Sequences | None = None

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

    def policy_inputs(self, rows: Rows) -> tuple[Observations, Batch, Sequences | None]:
        """Return the arguments of :class:`trpo_ts.action_distribution.ActionDistribution` for some rows."""
        sequences = None if self.sequences is None else self.sequences[rows]
        return self.obs[rows], _rows_of_info(self.info, rows), sequences

    @classmethod
    def of_batch(
        cls,
        batch: RolloutBatchProtocol,
        buffer: ReplayBuffer,
        indices: np.ndarray,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Transitions:
        """Return the transitions of Tianshou's batch.

        :param batch: the batch.
        :param buffer: the buffer it is from.
        :param indices: where in the buffer, shape ``(N,)``.
        :param device: the policy's.
        :param dtype: the policy's floating dtype.
        """
        unfinished = np.isin(indices, buffer.unfinished_index())
        return cls(
            obs=as_tensors(batch.obs, device, dtype),
            obs_next=as_tensors(batch.obs_next, device, dtype),
            act=as_tensors(batch.act, device, dtype),
            info=cast(Batch, batch.info),
            ends=batch.terminated | batch.truncated | unfinished,
            unfinished=unfinished,
            env=np.searchsorted(buffer.subbuffer_edges, indices, side="right") - 1,
        )


@dataclass(frozen=True, kw_only=True)
class Rollout(Transitions):
    """The transitions, and what the critic makes of them.

    :param adv: advantages as the objective takes them, shape ``(N,)``.
    :param returns: the critic's targets, in its unit, shape ``(N,)``.
    :param values: V(s) before the critic's fit, in the same unit, shape ``(N,)``.
    :param critic_obs: the observations as the critic takes them.
    """

    adv: Tensor
    returns: Tensor
    values: Tensor
    critic_obs: Observations


def as_tensors(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return arrays, or nested batches of arrays, as tensors; floating ones in the given dtype.

    Networks convert NumPy input in every forward pass; converted once here, it costs nothing there. Integers
    (images, categories) keep their dtype. What is no numeric array is returned as it is.
    """
    if isinstance(value, Batch):
        return Batch({key: as_tensors(item, device, dtype) for key, item in value.items()})
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return value


def _rows_of_info(info: Batch, rows: Rows) -> Batch:
    """Return rows of the infos, which are NumPy arrays, and empty where an environment gives none."""
    if len(info.get_keys()) == 0:
        return info
    return info[rows.cpu().numpy() if isinstance(rows, Tensor) else rows]
