"""Rows of a rollout, one for each transition: cut into micro-batches, or some of them evenly spaced.

Where rows depend on the ones before them, in sequences, both consist of whole sequences: derivatives of a cut one would
lack what flows through the cut.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Rows", "evenly_spaced", "row_count", "row_slices", "rows_of_sequences"]

Rows = slice | Tensor
"""Rows of the rollout: a contiguous slice, or indices."""


def row_count(rows: Rows) -> int:
    """Return how many rows there are."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def row_slices(count: int, size: int | None, starts: Tensor | None = None) -> list[slice]:
    """Return the slices that cut ``count`` rows into slices of at most ``size``; None means one slice.

    :param count: the number of rows, >= 1.
    :param size: the most rows of a slice, >= 1.
    :param starts: where sequences begin, ascending, the first one 0; None where rows are independent. A sequence
        that is longer than ``size`` is a slice of its own.
    """
    size = size or count
    if starts is None:
        cuts = list(range(0, count, size))
    else:
        cuts = [0]
        for begin, end in pairwise([*starts.tolist(), count]):
            if end - cuts[-1] > size and begin > cuts[-1]:
                cuts.append(begin)
    return [slice(begin, end) for begin, end in pairwise([*cuts, count])]


def evenly_spaced(chosen: int, count: int, device: torch.device, starts: Tensor | None = None) -> Tensor:
    """Return the indices of ``chosen`` of ``count`` rows, in their order; no random number is drawn.

    :param chosen: how many, in ``[1, count]``.
    :param count: the number of rows.
    :param device: where the indices shall be.
    :param starts: as in :func:`row_slices`. That share of the sequences is then taken, at least one.
    """
    if starts is None:
        return torch.arange(chosen, device=device) * count // chosen
    taken = evenly_spaced(max(1, round(chosen * len(starts) / count)), len(starts), starts.device)
    return rows_of_sequences(taken, count, starts).to(device)


def rows_of_sequences(taken: Tensor, count: int, starts: Tensor) -> Tensor:
    """Return the indices of the rows of some sequences.

    :param taken: the sequences' numbers, ascending.
    :param count: the number of rows of all sequences.
    :param starts: where each sequence begins.
    """
    ends = torch.cat([starts[1:], starts.new_tensor([count])])
    inside = torch.zeros(count + 1, dtype=torch.long, device=starts.device)
    inside[starts[taken]] += 1
    inside[ends[taken]] -= 1
    return inside[:-1].cumsum(0).nonzero().flatten()
