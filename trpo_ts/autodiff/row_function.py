r"""A module over the rows of a rollout, as a function of its parameter vector.

Policy and critic are both such a function, :math:`(\theta, \text{rows}) \mapsto` outputs: the policy function gives the
action distributions :math:`\pi_\theta(\cdot|s_n)`, the value function the values :math:`V_\phi(s_n)`. A row is one
transition of the rollout. The function knows into which micro-batches the rows are cut, so that what is made of it
(objective, gradient, products, K-FAC's factors) need not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trpo_ts.autodiff.flat_parameters import FlatParameters, ForwardPass
from trpo_ts.autodiff.ranks import Shard
from trpo_ts.autodiff.rows import Rows, evenly_spaced, row_slices, rows_of_sequences

__all__ = ["RowFunction"]


class RowFunction:
    r"""A module's outputs for rows of a rollout, at any parameter vector :math:`\theta`.

    :param module: the module.
    :param inputs_of: maps rows to the module's arguments.
    :param count: the number of rows of the rollout, >= 1.
    :param starts: the positions at which sequences of dependent rows begin, ascending, the first one 0; None where
        each row is independent of the others.
    :param micro_batch_size: the most rows in one pass; None for all.
    :param only: the parameters that may move, when not all of the module's.
    :param record_layers: whether :meth:`forward_pass` records what flows through the layers, as K-FAC needs it.
    :param shard: the rows as a part of those of all ranks; None in a single process.
    :param sequence_shard: their sequences as a part of those of all ranks, where rows are in sequences.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs_of: Callable[[Rows], tuple[Any, ...]],
        count: int,
        *,
        starts: Tensor | None = None,
        micro_batch_size: int | None = None,
        only: Iterable[nn.Parameter] | None = None,
        record_layers: bool = False,
        shard: Shard | None = None,
        sequence_shard: Shard | None = None,
    ) -> None:
        self.parameters = FlatParameters(module, only)
        self.count, self.starts, self.micro_batch_size = count, starts, micro_batch_size
        self.record_layers = record_layers
        self.shard = shard or Shard.whole(count)
        self._sequence_shard = sequence_shard
        self.micro_batches = row_slices(count, micro_batch_size, starts)
        """The rows of one pass each; together they are all rows."""
        self._inputs_of = inputs_of

    def __call__(self, theta: Tensor, rows: Rows) -> Any:
        """Return the module's output at ``theta``, shape ``(P,)``, for some rows."""
        return self.parameters.call(theta, *self._inputs_of(rows))

    def acting(self, rows: Rows) -> Any:
        """Return the module's output for some rows with its own parameters, as acting computes it."""
        return self.parameters.acting(*self._inputs_of(rows))

    def forward_pass(self, theta: Tensor, rows: Rows, *, record_layers: bool | None = None) -> ForwardPass:
        """Return the module's output for some rows, with a graph that begins at the leaf ``theta``."""
        record = self.record_layers if record_layers is None else record_layers
        with torch.enable_grad():
            return self.parameters.forward_pass(theta, *self._inputs_of(rows), record_layers=record)

    def evenly_spaced(self, chosen: int) -> tuple[Tensor, list[slice]]:
        """Return ``chosen`` evenly spaced rows of all ranks, as far as they are here, cut into micro-batches.

        :param chosen: how many, in ``[1, shard.total]``. Of rows in sequences, whole sequences are taken.
        :return: the rows' indices, ascending, and slices of that tensor; of another rank's rows there may be all.
        """
        rows = self._evenly_spaced(chosen)
        if len(rows) == 0:
            return rows, []
        starts = None if self.starts is None else torch.isin(rows, self.starts.to(rows.device)).nonzero().flatten()
        return rows, row_slices(len(rows), self.micro_batch_size, starts)

    def _evenly_spaced(self, chosen: int) -> Tensor:
        shard, device = self.shard, self.parameters.device
        if shard.is_whole:
            return evenly_spaced(chosen, self.count, device, self.starts)
        if self.starts is None:
            return shard.own(evenly_spaced(chosen, shard.total, device))
        sequences = self._sequence_shard
        assert sequences is not None
        taken = evenly_spaced(
            max(1, round(chosen * sequences.total / shard.total)), sequences.total, self.starts.device
        )
        return rows_of_sequences(sequences.own(taken), self.count, self.starts).to(device)

    def shard_of(self, rows: Tensor, chosen: int) -> Shard:
        """Return this rank's part of ``chosen`` evenly spaced rows as a part of those of all ranks.

        It is a reduction for rows in sequences alone: others do not tell how long those of other ranks are.

        :param rows: what :meth:`evenly_spaced` returned for ``chosen``.
        """
        shard = self.shard
        if shard.is_whole or chosen >= shard.total:
            return Shard.whole(len(rows)) if shard.is_whole else shard
        if self.starts is not None:
            return Shard.of_counts([count for (count,) in shard.ranks.gather([len(rows)])], shard.ranks)
        before = int((evenly_spaced(chosen, shard.total, rows.device) < shard.start).sum())
        return Shard(len(rows), before, chosen, shard.ranks)
