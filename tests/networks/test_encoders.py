"""What the encoders compute of numbers and categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.networks.encoders import make_encoder

LIKE = torch.zeros(1, dtype=torch.float64)


def encoded(space: spaces.Space, obs: Any) -> Tensor:
    return make_encoder(space, nn.Tanh)(obs, LIKE)


def test_floating_numbers_are_taken_as_they_are():
    for space in (spaces.Box(-10, 10, (2, 2)), spaces.Box(-np.inf, np.inf, (2, 2))):
        assert encoded(space, np.array([[[7.0, -2.0], [0.5, 3.0]]])).tolist() == [[7.0, -2.0, 0.5, 3.0]]
    assert encoded(spaces.Box(-1, 1, ()), np.array([0.25, 0.5])).tolist() == [[0.25], [0.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int64])
def test_integers_are_scaled_by_their_bounds(dtype: type):
    space = spaces.Box(np.array([0, 20], dtype), np.array([100, 120], dtype), dtype=dtype)
    np.testing.assert_allclose(encoded(space, np.array([[50, 20], [0, 120]], dtype)), [[0.5, 0.0], [0.0, 1.0]])


def test_integers_without_levels_are_taken_as_they_are():
    unbounded = spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (1,), dtype=np.int64)
    for space in (unbounded, spaces.Box(0, 10**6, (1,), dtype=np.int64)):
        assert encoded(space, np.array([[123456]])).tolist() == [[123456.0]]


def test_bits_are_zeros_and_ones():
    assert encoded(spaces.MultiBinary(3), np.array([[1, 0, 1]], np.int8)).tolist() == [[1.0, 0.0, 1.0]]
    assert encoded(spaces.Box(0, 1, (2,), dtype=bool), np.array([[True, False]])).tolist() == [[1.0, 0.0]]


def test_categories_are_one_hot_from_their_start():
    assert encoded(spaces.Discrete(3), np.array([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert encoded(spaces.Discrete(3, start=-1), np.array([-1, 1])).tolist() == [[1, 0, 0], [0, 0, 1]]
    space = spaces.MultiDiscrete([2, 3], start=[5, -1])
    assert encoded(space, np.array([[6, -1], [5, 1]])).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([[2, 3], [4, 1]]), spaces.MultiDiscrete([3])], ids=str)
def test_every_category_has_a_place_of_its_own(space: spaces.MultiDiscrete):
    space.seed(0)
    obs = np.stack([space.sample() for _ in range(50)])
    places = encoded(space, obs)
    assert places.shape == (50, space.nvec.sum())
    assert (places.sum(dim=1) == space.nvec.size).all()
    same_obs = (obs.reshape(50, 1, -1) == obs.reshape(1, 50, -1)).all(axis=2)
    same_places = (places.unsqueeze(0) == places.unsqueeze(1)).all(dim=2)
    np.testing.assert_array_equal(same_obs, same_places)


def test_a_dict_is_its_entries_side_by_side():
    space = spaces.Dict({"x.y": spaces.Box(-1, 1, (2,)), "in": spaces.Dict(mode=spaces.Discrete(2))})
    obs = {"x.y": np.array([[0.5, -0.5]]), "in": {"mode": np.array([1])}}
    expected = {"x.y": [0.5, -0.5], "in": [0.0, 1.0]}
    row = [number for key in space.spaces for number in expected[key]]
    for batch in (obs, Batch(obs)):
        assert encoded(space, batch).tolist() == [row]


@st.composite
def nested_spaces(draw: Any, depth: int = 2) -> spaces.Space:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    counts = draw(arrays(np.int64, shape or (1,), elements=st.integers(1, 4)))
    starts = draw(arrays(np.int64, counts.shape, elements=st.integers(-3, 3)))
    kinds = [
        lambda: spaces.Box(-1, 1, shape),
        lambda: spaces.Discrete(int(counts.flat[0]), start=int(starts.flat[0])),
        lambda: spaces.MultiDiscrete(counts, start=starts),
        lambda: spaces.MultiBinary(list(counts.shape)),
    ]
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(kinds))()
    keys = draw(st.lists(st.text("abc.", min_size=1), min_size=1, max_size=3, unique=True))
    return spaces.Dict({key: draw(nested_spaces(depth - 1)) for key in keys})


@given(nested_spaces())
def test_without_images_the_encoder_is_gymnasiums_flattening(space: spaces.Space):
    space.seed(0)
    samples = [space.sample() for _ in range(3)]
    obs = Batch(samples) if isinstance(space, spaces.Dict) else np.stack(samples)
    expected = np.stack([spaces.flatten(space, sample) for sample in samples])
    np.testing.assert_array_equal(encoded(space, obs), expected.astype(np.float64))
