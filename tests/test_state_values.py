"""Values of a rollout: which of them are computed, and which are reused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from episodes import algorithm_with, fill, rollout_from, steps_of_env
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.data import Batch

from trpo_ts.state_values import continues


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
    got = continues(*trajectory(breaks, 7, shape, dtype))
    assert got.dtype == bool
    assert got.tolist() == expected


def test_the_last_row_never_continues():
    same = torch.ones(3, 2)
    assert continues(same, same).tolist() == [True, True, False]
    assert continues(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [False]
    assert continues(torch.ones(1), torch.ones(1)).tolist() == [False]


def test_one_component_of_one_pixel_breaks_a_trajectory():
    obs, following = trajectory([], 5, (4, 4, 3))
    following[2, 3, 1, 0] = torch.nextafter(following[2, 3, 1, 0], torch.tensor(1e9))
    assert continues(obs, following).tolist() == [True, True, False, True, False]


def test_nested_observations_continue_where_every_part_does():
    first, first_next = trajectory([1], 5, (2,))
    second, second_next = trajectory([3], 5, (4, 4))
    obs = Batch(a=first, inner=Batch(b=second))
    following = Batch(a=first_next, inner=Batch(b=second_next))
    assert continues(obs, following).tolist() == [True, False, True, False, False]


def test_observations_that_are_no_tensors_are_taken_not_to_continue():
    words = np.array(["a", "b", "c"], dtype=object)
    assert continues(words, words).tolist() == [False, False, False]
    obs, following = trajectory([], 3, (2,))
    assert continues(obs, following[:, :1]).tolist() == [False, False, False]
    assert continues(Batch(a=obs, word=words), Batch(a=following, word=words)).tolist() == [False, False, False]


def test_an_observation_that_is_not_a_number_does_not_continue():
    obs = torch.full((3, 2), math.nan)
    assert continues(obs, obs).tolist() == [False, False, False]


def test_the_critic_sees_each_observation_once_and_the_next_one_only_where_an_episode_breaks():
    rng = np.random.default_rng(3)
    envs = [steps_of_env(ends, rng) for ends in ("..T..L...", ".........")]
    algorithm = algorithm_with()
    rollout_from(algorithm, fill(envs, 10))
    assert algorithm.critic.rows == 18 + 4  # a termination, a truncation, the ends of two environments


def test_critic_of_another_shape_is_refused():
    policy = make_actor_policy()
    with pytest.raises(ValueError, match=r"critic must return one value per observation, got \(64, 3\)"):
        update(make_trpo(policy, Mlp((OBS_DIM, 8, 3))), make_rollout(policy))
