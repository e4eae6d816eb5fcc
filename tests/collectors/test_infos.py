"""Infos of several steps become what Tianshou's ``Batch`` makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from collecting import assert_equal
from hypothesis import given
from hypothesis import strategies as st
from tianshou.data import Batch

from trpo_ts.collectors.infos import ColumnInfos, RowInfos, concatenated_infos, infos_of, joined_infos

VALUES = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-2, 2),
    st.builds(np.float32, st.floats(-2, 2, width=32)),
    st.builds(lambda x: np.arange(3.0) + x, st.floats(-2, 2)),
    st.fixed_dictionaries({"deep": st.floats(-2, 2)}),
)


def varied(value: Any, i: int) -> Any:
    if isinstance(value, dict):
        return {key: varied(item, i) for key, item in value.items()}
    return (
        value ^ bool(i % 2) if isinstance(value, bool) else value + type(value)(i) if np.isscalar(value) else value + i
    )


@given(st.data())
def test_dictionaries_of_any_values_are_stacked_as_tianshou_does(data: Any) -> None:
    kinds = data.draw(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
    rows = [{key: varied(value, i) for key, value in kinds.items()} for i in range(data.draw(st.integers(1, 5)))]
    expected = Batch(info=np.array([*rows, None], dtype=object)[:-1]).info if kinds else Batch()
    assert_equal(joined_infos([RowInfos.of(rows)]), expected)


def test_a_key_that_some_rows_lack_is_zero_there() -> None:
    batch = joined_infos([RowInfos.of([{"a": 1.5, "b": 2}, {"a": 2.5}]), RowInfos.of([{}, {"b": 7, "a": 3.5}])])
    np.testing.assert_array_equal(batch.a, [1.5, 2.5, 0.0, 3.5])
    np.testing.assert_array_equal(batch.b, [2, 0, 0, 7])


def test_what_an_environment_changes_later_has_been_copied() -> None:
    info: dict[str, Any] = {"array": np.zeros(2), "inner": {"list": [1]}, "number": 1}
    kept = RowInfos.of([info])
    info["array"][:] = 5.0
    info["inner"]["list"].append(2)
    info["number"] = 9
    (row,) = kept.as_dictionaries()
    np.testing.assert_array_equal(row["array"], [0.0, 0.0])
    assert (row["inner"], row["number"]) == ({"list": [1]}, 1)


@pytest.fixture
def columns() -> ColumnInfos:
    return ColumnInfos({"a": np.arange(4), "inner": {"b": np.arange(4.0)}}, 4)


def test_columns_and_rows_say_the_same(columns: ColumnInfos) -> None:
    rows = RowInfos(columns.as_dictionaries().tolist())
    chosen = np.array([True, False, True, False])
    assert_equal(columns.as_batch(), rows.as_batch())
    assert_equal(columns[chosen].as_batch(), rows[chosen].as_batch())
    assert len(columns[chosen].as_dictionaries()) == 2
    assert_equal(columns.with_key("c", np.arange(4) * 2).as_batch(), rows.with_key("c", np.arange(4) * 2).as_batch())


@pytest.mark.parametrize("other", [{"a": np.array([9]), "inner": {"b": np.array([9.5])}}, {"a": np.array([9])}])
def test_rows_are_replaced_and_the_first_stay(columns: ColumnInfos, other: dict[str, Any]) -> None:
    changed = columns.with_rows(np.array([2]), ColumnInfos(other, 1))
    assert [row["a"] for row in changed.as_dictionaries()] == [0, 1, 9, 3]
    assert [row["a"] for row in columns.as_dictionaries()] == [0, 1, 2, 3]


def test_rows_and_columns_can_follow_each_other(columns: ColumnInfos) -> None:
    joined = concatenated_infos([columns, RowInfos.of([{"a": np.int64(7), "inner": {"b": np.float64(8.0)}}])])
    np.testing.assert_array_equal(joined.as_batch().a, [0, 1, 2, 3, 7])
    np.testing.assert_array_equal(joined.as_batch().inner.b, [0, 1, 2, 3, 8])


def test_nothing_said_is_an_empty_batch() -> None:
    assert len(infos_of({}, 3).as_batch().get_keys()) == 0
    assert len(infos_of(np.array([{}, {}]), 2).as_batch().get_keys()) == 0
    assert len(infos_of({}, 3).as_dictionaries()) == 3
