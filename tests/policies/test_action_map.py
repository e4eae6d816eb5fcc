"""What the environment gets of an action, component by component."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from box_cases import BOX, DISTRIBUTIONS, OBS, distribution_of, distributions, observations, sample_of
from gymnasium import spaces

from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.policies import make_policy

INFINITE = np.inf


@pytest.mark.parametrize(
    ("low", "high", "raw", "sent"),
    [
        (3.0, INFINITE, [-5.0, -1.0, 0.0, 7.0], [3.0, 3.0, 4.0, 11.0]),
        (-INFINITE, 3.0, [-5.0, 0.0, 1.0, 7.0], [-3.0, 2.0, 3.0, 3.0]),
        (-INFINITE, INFINITE, [-5.0, 0.0, 7.0], [-5.0, 0.0, 7.0]),
        (1.0, 5.0, [-9.0, -1.0, 0.5, 9.0], [1.0, 1.0, 4.0, 5.0]),
        (2.0, 2.0, [-1.0, 0.0, 4.0], [2.0, 2.0, 2.0]),
    ],
    ids=str,
)
def test_every_component_is_mapped_by_its_own_bounds(low: float, high: float, raw: list[float], sent: list[float]):
    space = spaces.Box(np.array([low, -1], np.float32), np.array([high, 1], np.float32))
    policy = make_policy(OBS, space)
    act = np.array([[a, 0.0] for a in raw], np.float32)
    mapped = policy.map_action(act)
    assert mapped.dtype == np.float32
    assert mapped.tolist() == [[a, 0.0] for a in sent]
    assert all(space.contains(a) for a in mapped)


@distributions
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_have_the_spaces_shape_and_dtype(name: str, shape: tuple[int, ...], dtype: type):
    space = spaces.Box(-0.3, 1.1, shape, dtype=dtype)
    policy = make_policy(OBS, space, initial_std=2.0, **DISTRIBUTIONS[name])
    dist = distribution_of(policy, observations(50))
    assert (tuple(dist.batch_shape), tuple(dist.event_shape)) == ((50,), shape)
    for act in (sample_of(policy, observations(50)), dist.mode):
        mapped = policy.map_action(act)
        assert mapped.shape == (50, *shape)
        assert all(space.contains(np.asarray(a)) for a in mapped)


@distributions
def test_random_actions_of_the_collector_are_stored_as_the_policys_own(name: str):
    policy = make_policy(OBS, BOX, **DISTRIBUTIONS[name])
    sent = np.stack([BOX.low, BOX.high, (BOX.low + BOX.high) / 2, [1.5, 0.1]]).astype(np.float32)
    stored = policy.map_action_inverse(sent)
    density = detached_double(distribution_of(policy, observations(4))).log_prob(torch.as_tensor(stored))
    assert density.isfinite().all()
    np.testing.assert_allclose(policy.map_action(stored.astype(np.float32)), sent, atol=1e-5)
