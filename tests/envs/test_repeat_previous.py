"""The task of memory: its rules, its spaces, its seeds."""

from __future__ import annotations

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from trpo_ts.checkpoints.environments import environment_state, set_environment_state
from trpo_ts.checkpoints.packing import pack, unpack
from trpo_ts.envs import RepeatPreviousEnv


def test_gymnasiums_checker_finds_nothing():
    check_env(gym.make("RepeatPrevious-v0").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("delay", [1, 2, 5])
@pytest.mark.parametrize(("late", "expected"), [(0, 1.0), (1, None)])
def test_only_the_symbol_of_the_delay_is_right(delay, late, expected):
    env = RepeatPreviousEnv(delay=delay, symbols=5, length=40)
    total, steps, seen, done = 0.0, 0, [], False
    obs, _ = env.reset(seed=delay)
    while not done:
        seen.append(int(obs))
        answer = seen[-1 - delay - late] if len(seen) > delay + late else 0
        obs, reward, done, truncated, _ = env.step(answer)
        assert not truncated
        total, steps = total + reward, steps + 1
    assert steps == 40 + delay
    assert total == pytest.approx(expected) if expected else 0.0 < total < 0.5


def test_the_first_answers_are_not_asked_for():
    env = RepeatPreviousEnv(delay=3, symbols=2, length=5)
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_checkpoint_holds_it():
    env, other = RepeatPreviousEnv(), RepeatPreviousEnv()
    env.reset(seed=3)
    for _ in range(5):
        env.step(1)
    other.reset(seed=4)
    set_environment_state(other, unpack(pack(environment_state(env))))
    assert [env.step(2)[:3] for _ in range(20)] == [other.step(2)[:3] for _ in range(20)]


@pytest.mark.parametrize(("arguments", "least"), [({"delay": 0}, 1), ({"symbols": 1}, 2), ({"length": 0}, 1)])
def test_values_out_of_range_are_refused(arguments, least):
    with pytest.raises(ValueError, match=f"must be an integer >= {least}"):
        RepeatPreviousEnv(**arguments)


def test_other_actions_are_refused():
    env = RepeatPreviousEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action is 4; pass a symbol, 0 to 3"):
        env.step(4)
