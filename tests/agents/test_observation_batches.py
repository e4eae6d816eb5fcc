"""One observation or a batch, of every space; what is of another form is said in one error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.data import Batch

from trpo_ts.agents.observation_batches import as_batch

VECTOR = spaces.Box(-1.0, 1.0, (3,))
IMAGE = spaces.Box(0, 255, (4, 5, 3), dtype=np.uint8)
PARTS = spaces.Dict({"a.b": VECTOR, "inner": spaces.Dict(mode=spaces.Discrete(3, start=1))})
PAIR = spaces.Dict({"0": VECTOR, "1": spaces.MultiDiscrete([2, 3])})


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (VECTOR, np.zeros(3, np.float64)),
        (spaces.Box(-1.0, 1.0, ()), 0.5),
        (IMAGE, np.zeros((4, 5, 3), np.uint8)),
        (spaces.Discrete(3), np.int64(2)),
        (spaces.MultiDiscrete([[2, 3]]), [[1, 2]]),
        (spaces.MultiBinary(4), [0, 1, 1, 0]),
        (VECTOR, torch.zeros(3)),
    ],
    ids=str,
)
def test_an_observation_gets_a_leading_axis_and_a_batch_stays(space: spaces.Space, obs: Any):
    rows, count = as_batch(space, obs)
    assert count is None
    assert rows.shape == (1, *space.shape)
    assert rows.dtype == np.asarray(obs).dtype
    again, count = as_batch(space, np.stack([np.asarray(obs)] * 4))
    assert count == 4
    np.testing.assert_array_equal(again, np.repeat(rows, 4, axis=0))


def parts_of(rows: Batch) -> tuple[np.ndarray, np.ndarray]:
    return rows.__dict__["a.b"], rows.inner.mode


def test_dicts_in_every_form():
    one = {"a.b": np.arange(3.0), "inner": {"mode": np.int64(1)}}
    rows, count = as_batch(PARTS, one)
    assert count is None
    assert [part.shape for part in parts_of(rows)] == [(1, 3), (1,)]
    two = {"a.b": np.stack([np.arange(3.0), np.ones(3)]), "inner": {"mode": np.array([1, 3])}}
    other = {"a.b": np.ones(3), "inner": {"mode": np.int64(3)}}
    of_objects = np.empty(2, dtype=object)
    of_objects[:] = [one, other]
    for obs in (two, [one, other], of_objects, Batch(inner=Batch(mode=np.array([1, 3])), **{"a.b": two["a.b"]})):
        rows, count = as_batch(PARTS, obs)
        assert count == 2
        for part, expected in zip(parts_of(rows), (two["a.b"], [1, 3]), strict=True):
            np.testing.assert_array_equal(part, expected)


def test_tuples_for_numbered_keys():
    rows, count = as_batch(PAIR, (np.zeros(3), [1, 2]))
    assert count is None
    assert rows["1"].tolist() == [[1, 2]]
    assert as_batch(PAIR, (np.zeros((5, 3)), np.zeros((5, 2), int)))[1] == 5


@pytest.mark.parametrize(
    ("space", "obs", "words"),
    [
        (VECTOR, np.zeros(4), r"obs must have the shape \(3,\), or \(N, 3\) for a batch, got \(4,\)"),
        (VECTOR, np.zeros((2, 2, 3)), r"got \(2, 2, 3\)"),
        (VECTOR, np.zeros((0, 3)), "at least one observation"),
        (VECTOR, [np.nan, 0.0, 0.0], "obs must be finite, got nan"),
        (VECTOR, ["a", "b", "c"], "obs must be numbers, got an array of dtype <U1"),
        (VECTOR, [[1.0], [1.0, 2.0]], "ragged"),
        (VECTOR, None, "obs must be numbers, got an array of dtype object"),
        (IMAGE, np.zeros((4, 5, 3)), "obs must be integers, as uint8, got an array of dtype float64"),
        (IMAGE, np.zeros((3, 4, 5), np.uint8), r"obs must have the shape \(4, 5, 3\)"),
        (spaces.Discrete(3), 3, r"obs must be in Discrete\(3\), got 3"),
        (spaces.Discrete(3, start=1), [1, 0], "got 0"),
        (spaces.MultiDiscrete([2, 3]), [2, 0], "got 2"),
        (PARTS, np.zeros(3), "obs must be a Dict with the keys 'a.b', 'inner', got a ndarray"),
        (PARTS, {"a.b": np.zeros(3)}, "obs must have the keys 'a.b', 'inner', got 'a.b'"),
        (PARTS, [{"a.b": np.zeros(3)}], "'inner'"),
        (PARTS, {"a.b": np.zeros(3), "inner": 1}, r"obs\['inner'\] must be a Dict with the keys 'mode', got a int"),
        (PARTS, {"a.b": np.zeros((2, 3)), "inner": {"mode": 1}}, r"2 rows in obs\['a.b'\], no leading axis in"),
        (PAIR, (np.zeros((2, 3)), np.zeros((3, 2), int)), r"2 rows in obs\['0'\], 3 rows in obs\['1'\]"),
        (PAIR, (np.zeros(3),), "got a tuple"),
    ],
)  # fmt: skip
def test_what_is_of_another_form_is_named(space: spaces.Space, obs: Any, words: str):
    with pytest.raises(ValueError, match=words):
        as_batch(space, obs)
