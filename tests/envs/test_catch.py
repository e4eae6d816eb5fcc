"""The task of images: its rules, its spaces, its seeds."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from trpo_ts.checkpoints.environments import environment_state, set_environment_state
from trpo_ts.checkpoints.packing import pack, unpack
from trpo_ts.envs import CatchEnv


def test_gymnasiums_checker_finds_nothing():
    check_env(gym.make("Catch-v0").unwrapped, skip_render_check=True)


def columns(obs):
    """Return the columns of ball and paddle before the last row."""
    (row,) = np.flatnonzero(obs[:-1, :, 0].any(axis=1))
    return int(np.argmax(obs[row, :, 0])), int(np.argmax(obs[-1, :, 0]))


@pytest.mark.parametrize("follows", [True, False])
def test_the_paddle_that_follows_the_ball_always_wins_and_the_one_that_flees_never_does(follows):
    env = CatchEnv(rows=8, columns=7)
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        rewards, done = [], False
        while not done:
            ball, paddle = columns(obs)
            towards = 1 + np.sign(ball - paddle)
            away = 2 if ball < paddle or (ball == paddle and paddle < 6) else 0
            obs, reward, done, truncated, _ = env.step(int(towards if follows else away))
            rewards.append(reward)
            assert not truncated
        assert len(rewards) == 7
        assert rewards == [0.0] * 6 + [1.0 if follows else -1.0]
        if follows:
            assert obs.sum() == 255  # ball and paddle are in one place


def test_images_are_bytes_in_the_space():
    env = CatchEnv(rows=5, columns=4)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (5, 4, 1)
    assert env.observation_space.contains(obs)
    assert obs.sum() == 2 * 255


def test_balls_fall_everywhere():
    env = CatchEnv()
    assert {columns(env.reset(seed=seed)[0])[0] for seed in range(100)} == set(range(10))


def test_the_paddle_stays_in_the_image():
    env = CatchEnv()
    for action, column in ((0, 0), (2, 9)):
        env.reset(seed=0)
        for _ in range(8):
            obs, *_ = env.step(action)
        assert columns(obs)[1] == column


def test_a_checkpoint_holds_it():
    env, other = CatchEnv(), CatchEnv()
    env.reset(seed=3)
    env.step(2)
    state = unpack(pack(environment_state(env)))
    other.reset(seed=4)
    set_environment_state(other, state)
    for _ in range(8):
        left, right = env.step(1), other.step(1)
        np.testing.assert_array_equal(left[0], right[0])
        assert left[1:3] == right[1:3]
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


@pytest.mark.parametrize("arguments", [{"rows": 3}, {"columns": 2}, {"rows": 4.5}])
def test_small_images_are_refused(arguments):
    with pytest.raises(ValueError, match="must be an integer >= 4"):
        CatchEnv(**arguments)


def test_other_actions_are_refused():
    env = CatchEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action is 3; pass 0"):
        env.step(3)
