"""A rollout as sequences: where they begin, and the state from which a network with a memory starts each."""

from __future__ import annotations

from typing import Any, Self

import torch
from tianshou.data import Batch
from torch import Tensor

__all__ = ["SequencedObs", "Sequences", "sequence_starts", "starts_after"]


class _RowBatch(Batch):
    """A batch whose rows are a batch of the same class."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Tensor):  # an array takes a tensor of one index for a number
            index = index.cpu().numpy()
        item = super().__getitem__(index)
        return item if isinstance(index, str) else type(self)(item)


class Sequences(_RowBatch):
    """What a network with a memory needs in order to go through rows of a rollout again.

    Rows can be taken from it in any way. What is taken begins a new sequence at a row that begins one, and at a row
    that does not follow the one before: the network's own state then comes from ``state``, detached.

    :param state: the state before each row, shape ``(N, S)``.
    :param start: whether a row begins a sequence, boolean, shape ``(N,)``.
    :param row: the rows' numbers in the rollout, shape ``(N,)``.
    """

    state: Tensor
    start: Tensor
    row: Tensor

    @classmethod
    def of_rollout(cls, state: Tensor, start: Tensor) -> Self:
        """Return the sequences of a whole rollout, whose rows are numbered from 0."""
        return cls(state=state, start=start, row=torch.arange(len(start), device=start.device))

    @property
    def starts(self) -> Tensor:
        """The positions at which sequences begin, ascending, the first one 0."""
        begins = self.start.clone()
        begins[0] = True
        begins[1:] |= self.row[1:] != self.row[:-1] + 1
        return begins.nonzero().flatten()


class SequencedObs(_RowBatch):
    """Observations together with their sequences, as a critic with a memory takes them.

    :param obs: a tensor ``(N, ...)`` or nested batches of such.
    :param sequences: the same rows' :class:`Sequences`.
    """

    obs: Any
    sequences: Sequences


def sequence_starts(obs: Any) -> Tensor | None:
    """Return where the sequences of some rows' observations begin; None where rows are independent."""
    return obs.sequences.starts if isinstance(obs, SequencedObs) else None


def starts_after(broken: Tensor) -> Tensor:
    """Return which rows begin a sequence, from whether the sequence breaks off between each row and the next."""
    return torch.cat([broken.new_ones(1), broken])
