"""Slices and evenly spaced choices of a rollout's rows."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trpo_ts.autodiff.rows import evenly_spaced, row_slices

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=20)


def starts_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths[:-1]]).cumsum(0)


@given(lengths=LENGTHS, size=st.one_of(st.none(), st.integers(1, 40)), sequenced=st.booleans())
def test_slices_are_all_rows_in_their_order_and_cut_no_sequence(
    lengths: list[int], size: int | None, sequenced: bool
) -> None:
    count, starts = sum(lengths), starts_of(lengths)
    slices = row_slices(count, size, starts if sequenced else None)
    assert [row for rows in slices for row in range(count)[rows]] == list(range(count))
    for part in slices:
        longer = size is not None and part.stop - part.start > size
        assert not longer or (sequenced and ((part.start < starts) & (starts < part.stop)).sum() == 0)
        assert not sequenced or part.start in starts
    for part, following in pairwise(slices):  # no slice could have been joined to the next whole
        end = row_slices(count, 1, starts if sequenced else None)
        first = next(one for one in end if one.start == following.start)
        assert first.stop - part.start > (size or count)


@given(lengths=LENGTHS, share=st.floats(0.01, 1.0))
def test_chosen_sequences_are_whole_ones(lengths: list[int], share: float) -> None:
    count, starts = sum(lengths), starts_of(lengths)
    chosen = max(1, round(share * count))
    rows = evenly_spaced(chosen, count, CPU, starts)
    sequences = torch.arange(count).tensor_split(starts[1:])
    taken = [sequence for sequence in sequences if sequence[0] in rows]
    assert torch.equal(rows, torch.cat(taken))
    assert len(taken) == max(1, round(chosen * len(lengths) / count))


def test_sequences_of_one_row_are_rows() -> None:
    starts = torch.arange(50)
    for chosen in (1, 7, 50):
        assert torch.equal(evenly_spaced(chosen, 50, CPU, starts), evenly_spaced(chosen, 50, CPU))
    assert row_slices(50, 8, starts) == row_slices(50, 8)
