"""Normalised rewards against the definition, written out, and gymnasium's wrapper."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from collecting import Unsteady
from tianshou.env import DummyVectorEnv

from trpo_ts.collectors import VectorEnvNormReward


def test_rewards_are_divided_by_the_deviation_of_all_discounted_sums_so_far():
    plain, wrapped = DummyVectorEnv([Unsteady] * 3), VectorEnvNormReward(DummyVectorEnv([Unsteady] * 3), gamma=0.9)
    for env in (plain, wrapped):
        env.reset(seed=3)
    sums, seen = np.zeros(3), []
    for step in range(50):
        action = np.full((3, 2), 0.1 * step)
        _, rewards, *_ = plain.step(action)
        _, scaled, terminated, truncated, _ = wrapped.step(action)
        sums = 0.9 * sums + rewards
        seen.extend(sums)
        np.testing.assert_allclose(scaled, rewards / np.sqrt(np.var(seen) + 1e-8), rtol=1e-10)
        done = np.flatnonzero(terminated | truncated)
        if done.size:
            plain.reset(done)
            wrapped.reset(done)
            sums[done] = 0.0
    assert len(seen) == 150


def test_one_environment_is_normalised_as_by_gymnasium():
    single = gym.wrappers.NormalizeReward(Unsteady(ends="never"), gamma=0.99)
    wrapped = VectorEnvNormReward(DummyVectorEnv([lambda: Unsteady(ends="never")]), gamma=0.99)
    single.reset(seed=3)
    wrapped.reset(seed=3)
    ours, theirs = [], []
    for _ in range(2000):
        theirs.append(single.step(np.ones(2))[1])
        ours.append(wrapped.step(np.ones((1, 2)))[1][0])
    # gymnasium's statistics begin with a made-up count of 1e-4.
    np.testing.assert_allclose(ours[100:], theirs[100:], rtol=1e-3)


def test_statistics_stay_where_they_are_not_updated():
    wrapped = VectorEnvNormReward(DummyVectorEnv([Unsteady] * 2), update_statistics=False)
    wrapped.reset(seed=3)
    _, rewards, *_ = wrapped.step(np.zeros((2, 2)))
    assert wrapped.return_rms.count == 0
    assert np.isfinite(rewards).all()


def test_the_discount_must_be_one():
    with pytest.raises(ValueError, match=r"gamma must be a number in \[0, 1\], got 1.5"):
        VectorEnvNormReward(DummyVectorEnv([Unsteady]), gamma=1.5)
