"""Observation wrappers."""

from __future__ import annotations

import gymnasium as gym
from gymnasium import spaces

from trpo_ts.envs import TupleToDictObservation


def test_tuples_become_dicts_at_every_level():
    class Env(gym.Env):
        observation_space = spaces.Tuple([spaces.Discrete(3), spaces.Dict(x=spaces.Tuple([spaces.Discrete(2)]))])
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return (1, {"x": (0,)}), {}

        def step(self, action):
            return (2, {"x": (1,)}), 0.0, False, False, {}

    env = TupleToDictObservation(Env())
    assert env.observation_space == spaces.Dict(
        {"0": spaces.Discrete(3), "1": spaces.Dict(x=spaces.Dict({"0": spaces.Discrete(2)}))}
    )
    assert env.reset()[0] == {"0": 1, "1": {"x": {"0": 0}}}
    assert env.step(0)[0] == {"0": 2, "1": {"x": {"0": 1}}}
    assert env.observation_space.contains(env.step(0)[0])
