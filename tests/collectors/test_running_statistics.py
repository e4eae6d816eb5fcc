"""The running statistics equal Tianshou's bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tianshou.utils import RunningMeanStd

from trpo_ts.collectors.running_statistics import normalised, update


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, bool]),
    shape=st.sampled_from([(), (3,), (17,), (2, 5)]),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    clip=st.sampled_from([10.0, 0.5, None]),
)
def test_every_batch_gives_what_tianshous_class_gives(
    seed: int, dtype: Any, shape: tuple[int, ...], counts: list[int], scale: float, clip: float | None
) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = RunningMeanStd(clip_max=clip), RunningMeanStd(clip_max=clip)
    for count in counts:
        rows = np.asarray(scale * rng.standard_normal((count, *shape)) + rng.integers(-3, 3)).astype(dtype)
        before = rows.copy()
        update(ours, rows)
        theirs.update(rows)
        for name in ("mean", "var", "count"):
            assert_bits(getattr(ours, name), getattr(theirs, name))
        assert_bits(normalised(ours, rows), theirs.norm(rows))
        np.testing.assert_array_equal(rows, before)


def assert_bits(left: Any, right: Any) -> None:
    left, right = np.asarray(left), np.asarray(right)
    assert (left.dtype, left.shape) == (right.dtype, right.shape)
    assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_treated_alike(value: float) -> None:
    rows = np.array([[1.0, value], [2.0, 3.0]])
    ours, theirs = RunningMeanStd(), RunningMeanStd()
    with np.errstate(invalid="ignore"):
        update(ours, rows)
        theirs.update(rows)
        assert_bits(ours.mean, theirs.mean)
        assert_bits(normalised(ours, rows), theirs.norm(rows))


def test_a_class_of_ones_own_is_asked_itself() -> None:
    class Fixed(RunningMeanStd):
        def update(self, data_array: np.ndarray) -> None:
            self.count += 1

        def norm(self, data_array: Any) -> Any:
            return data_array * 0.0

    statistics = Fixed()
    update(statistics, np.ones((3, 2)))
    assert statistics.count == 1
    np.testing.assert_array_equal(normalised(statistics, np.ones((3, 2))), np.zeros((3, 2)))
