"""Images averaged down: means of areas, of every layout."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from trpo_ts.envs.smaller_images import SmallerImages, _area_means


class Frames(gym.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, shape, dtype=np.uint8):
        self.observation_space = spaces.Box(0, 255, shape, dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.frame = self.np_random.integers(256, size=self.observation_space.shape).astype(
            self.observation_space.dtype
        )
        return self.frame, {}


@pytest.mark.parametrize(
    ("shape", "smaller"),
    [
        ((12, 8), (4, 4)),
        ((12, 8, 3), (4, 4, 3)),
        ((3, 12, 8), (3, 4, 4)),
        ((4, 12, 1), (4, 4, 1)),
        ((4, 4, 1), (4, 4, 1)),
    ],
)
def test_pixels_are_means_of_blocks(shape, smaller):
    env = SmallerImages(Frames(shape), side=4)
    obs, _ = env.reset(seed=0)
    assert obs.shape == env.observation_space.shape == smaller
    assert env.observation_space.contains(obs)
    blocks = [part for a, b in zip(smaller, shape, strict=True) for part in (a, b // a)]
    expected = env.unwrapped.frame.reshape(blocks).mean(axis=tuple(range(1, 2 * len(shape), 2)))
    np.testing.assert_array_equal(obs, np.rint(expected))


def test_floats_are_not_rounded():
    env = SmallerImages(Frames((6, 6, 1), np.float32), side=4)
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32
    assert obs.mean() == pytest.approx(env.unwrapped.frame.mean(), rel=1e-5)


@given(st.integers(1, 60), st.data())
def test_areas_share_all_pixels_evenly(length, data):
    count = data.draw(st.integers(1, length))
    means = _area_means(length, count)
    np.testing.assert_allclose(means.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(means.sum(axis=0), count / length, rtol=1e-4)
    assert (means >= 0.0).all()


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(0, 1, (5,)), spaces.Dict(x=spaces.Discrete(2))])
def test_other_observations_are_refused(space):
    env = Frames((4, 4))
    env.observation_space = space
    with pytest.raises(ValueError, match="observations must be images"):
        SmallerImages(env)


def test_a_side_without_an_image_is_refused():
    with pytest.raises(ValueError, match="side must be an integer >= 4"):
        SmallerImages(Frames((8, 8)), side=3)
