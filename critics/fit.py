"""The interface between an update and the way its critic is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trpo_ts.autodiff.ranks import Shard
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.recurrent.sequences import sequence_starts

__all__ = ["CriticFit", "CriticTask", "reported"]


@dataclass(frozen=True)
class CriticTask:
    """What one fit of the critic is given.

    :param critic: the network, in training mode, from observations to values ``(n, 1)`` or ``(n,)``.
    :param optimizer: the algorithm's optimiser; it holds the parameters that may move: ``own``.
    :param obs: the rollout's observations as the critic takes them; indexing gives those of some rows. For a critic
        with a memory they are :class:`trpo_ts.recurrent.sequences.SequencedObs`: where a part begins inside a sequence,
        the critic starts from the state in which it computed the values, and no derivative flows through the cut.
    :param returns: the targets, shape ``(N,)``.
    :param micro_batch_size: the most rows in one pass; None for all.
    :param shard: the rows as a part of those of all ranks; None in a single process. A fit must take its sums over all
        of them, and make the same steps on each.
    :param sequence_shard: their sequences as a part of those of all ranks, for a critic with a memory.
    """

    critic: nn.Module
    optimizer: torch.optim.Optimizer
    obs: Any
    returns: Tensor
    micro_batch_size: int | None = None
    shard: Shard | None = None
    sequence_shard: Shard | None = None

    @property
    def rows(self) -> Shard:
        """The rows as a part of those of all ranks."""
        return self.shard or Shard.whole(len(self.returns))

    @property
    def own(self) -> list[nn.Parameter]:
        """The parameters that the critic does not share with the policy; all others must stay as they are."""
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]

    def value_function(self) -> RowFunction:
        r"""Return the critic's values ``(n, 1)`` or ``(n,)`` for rows of the rollout, as a function of :attr:`own`."""
        return RowFunction(
            self.critic,
            lambda rows: (self.obs[rows],),
            len(self.returns),
            starts=sequence_starts(self.obs),
            micro_batch_size=self.micro_batch_size,
            only=self.own,
            record_layers=True,
            shard=self.rows,
            sequence_shard=self.sequence_shard,
        )


@runtime_checkable
class CriticFit(Protocol):
    """A way to fit the critic. Any object with this method will do.

    One that cannot fit every critic may have a method ``check(task)`` too. It is called with a few rows of a critic's
    first rollout and the critic in evaluation mode, before anything is changed, and raises a ``ValueError`` that names
    the fix. One that works with several ranks has ``over_ranks = True``; see :attr:`CriticTask.rows`.
    """

    def fit(self, task: CriticTask) -> list[float]:
        """Move ``task.own`` towards the targets and return mean squared errors to report, at least one, finite."""


def reported(loss: float) -> float:
    """Return the loss as the stats may hold it: at most the largest float32, also in place of NaN."""
    largest = torch.finfo(torch.float32).max
    return largest if math.isnan(loss) else min(loss, largest)
