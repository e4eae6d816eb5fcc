"""The state of environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from resumable import Opaque
from runs import HORIZON

from trpo_ts.checkpoints.environments import environment_state, set_environment_state
from trpo_ts.checkpoints.packing import pack, unpack


def test_environments_are_restored_with_their_wrappers(tmp_path):
    def make():
        env = gym.make("CartPole-v1", max_episode_steps=HORIZON)
        return gym.wrappers.RecordEpisodeStatistics(gym.wrappers.TransformReward(env, np.tanh))

    env, other = make(), make()
    env.action_space.seed(3)
    other.reset(seed=1)
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    set_environment_state(other, unpack(pack(environment_state(env))))
    done = False
    while not done:
        action = env.action_space.sample()
        assert action == other.action_space.sample()
        (obs, reward, terminated, truncated, info), step = env.step(action), other.step(action)
        assert np.array_equal(obs, step[0])
        assert (reward, terminated, truncated) == step[1:4]
        assert info.get("episode", {}).get("l") == step[4].get("episode", {}).get("l")
        done = terminated or truncated
    assert np.array_equal(env.reset()[0], other.reset()[0])


class Aliased(Opaque):
    def __init__(self):
        self.state = np.zeros(4)
        self.velocity = self.state[2:]


class Closed(Opaque):
    def __init__(self):
        count = 0

        def counter():
            nonlocal count
            count += 1

        self.counter = counter


class Unclear(Opaque):
    def __init__(self):
        self.count = 0

    def get_state(self):
        return np.zeros(2)

    def set_state(self, position, velocity):
        raise AssertionError


@pytest.mark.parametrize("make", [Opaque, Aliased, Closed, Unclear])
def test_an_environment_that_cannot_be_restored_exactly_is_not_serialised(make):
    env = make()
    env.reset(seed=0)
    assert environment_state(env) is None
