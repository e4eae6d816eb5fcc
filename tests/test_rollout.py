"""Rollouts: where a row's next observation is the next row's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tianshou.data import Batch

from trpo_ts.rollout import continuing_rows


def trajectory(breaks: list[int], rows: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Any:
    """Observations of ``rows`` steps whose next observation is another one at ``breaks``."""
    numbers = torch.arange(2 * rows * math.prod(shape)).reshape(2 * rows, *shape) % 251
    obs, elsewhere = numbers[:rows].to(dtype), numbers[rows:].to(dtype)
    following = obs.roll(-1, 0)
    for row in [*breaks, rows - 1]:
        following[row] = elsewhere[row]
    return obs, following


@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (8, 8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64], ids=str)
@pytest.mark.parametrize("breaks", [[], [0], [2, 3], [0, 1, 2, 3, 4, 5]], ids=str)
def test_rows_continue_except_where_the_trajectory_breaks(
    shape: tuple[int, ...], dtype: torch.dtype, breaks: list[int]
):
    expected = [row not in breaks and row < 6 for row in range(7)]
    got = continuing_rows(*trajectory(breaks, 7, shape, dtype))
    assert got.dtype == bool
    assert got.tolist() == expected


def test_the_last_row_never_continuing_rows():
    same = torch.ones(3, 2)
    assert continuing_rows(same, same).tolist() == [True, True, False]
    assert continuing_rows(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [False]
    assert continuing_rows(torch.ones(1), torch.ones(1)).tolist() == [False]


def test_one_component_of_one_pixel_breaks_a_trajectory():
    obs, following = trajectory([], 5, (4, 4, 3))
    following[2, 3, 1, 0] = torch.nextafter(following[2, 3, 1, 0], torch.tensor(1e9))
    assert continuing_rows(obs, following).tolist() == [True, True, False, True, False]


def test_nested_observations_continue_where_every_part_does():
    first, first_next = trajectory([1], 5, (2,))
    second, second_next = trajectory([3], 5, (4, 4))
    obs = Batch(a=first, inner=Batch(b=second))
    following = Batch(a=first_next, inner=Batch(b=second_next))
    assert continuing_rows(obs, following).tolist() == [True, False, True, False, False]


def test_observations_that_are_no_tensors_are_taken_not_to_continue():
    words = np.array(["a", "b", "c"], dtype=object)
    assert continuing_rows(words, words).tolist() == [False, False, False]
    obs, following = trajectory([], 3, (2,))
    assert continuing_rows(obs, following[:, :1]).tolist() == [False, False, False]
    assert continuing_rows(Batch(a=obs, word=words), Batch(a=following, word=words)).tolist() == [False, False, False]


def test_an_observation_that_is_not_a_number_does_not_continue():
    obs = torch.full((3, 2), math.nan)
    assert continuing_rows(obs, obs).tolist() == [False, False, False]
