"""Gaussian policies: tanh-squashed, and with a standard deviation that depends on the state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from box_cases import BOX, DISTRIBUTIONS, OBS, distribution_of, observations, sample_of
from tianshou.data import Batch
from torch.distributions import AffineTransform, Normal, TanhTransform, TransformedDistribution, kl_divergence

from trpo_ts.policies import make_policy

# Tanh-squashed Gaussian


def test_squashed_gaussian_is_the_distribution_of_the_actions_that_the_environment_gets():
    """Ratios and divergences before tanh are those after it, which torch computes from the transformed Gaussian."""
    torch.manual_seed(0)
    policies = [make_policy(OBS, BOX, distribution="squashed_gaussian").double() for _ in range(2)]
    obs = observations(40).double()
    before = [distribution_of(policy, obs) for policy in policies]
    low, high = torch.as_tensor(BOX.low).double(), torch.as_tensor(BOX.high).double()
    transforms = [TanhTransform(), AffineTransform((low + high) / 2, (high - low) / 2, event_dim=1)]
    after = [TransformedDistribution(dist, transforms) for dist in before]
    act = before[0].sample()
    sent = low + (high - low) * (torch.tanh(act) + 1) / 2
    np.testing.assert_allclose(policies[0].map_action(act), sent, rtol=1e-6)
    ratio = before[1].log_prob(act) - before[0].log_prob(act)
    expected = after[1].log_prob(sent) - after[0].log_prob(sent)
    torch.testing.assert_close(ratio, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(kl_divergence(*before), kl_divergence(*after))


def test_saturated_squashed_actions_keep_finite_densities():
    policy = make_policy(OBS, BOX, distribution="squashed_gaussian", initial_std=10.0)
    act = sample_of(policy, observations(500))
    assert float(act.abs().max()) > 20.0  # where tanh is 1 in float32
    assert distribution_of(policy, observations(500)).log_prob(act).isfinite().all()
    assert all(BOX.contains(a) for a in policy.map_action(act))


# State-dependent standard deviation


@pytest.mark.parametrize("distribution", ["gaussian", "squashed_gaussian"])
@pytest.mark.parametrize("initial_std", [0.05, 0.6, 2.0])
def test_a_state_dependent_standard_deviation_starts_alike_and_can_differ(distribution: str, initial_std: float):
    policy = make_policy(OBS, BOX, distribution=distribution, std="state_dependent", initial_std=initial_std)
    obs = observations(100)
    torch.testing.assert_close(
        distribution_of(policy, obs).stddev, torch.full((100, 2), initial_std), rtol=0, atol=0.05
    )
    with torch.no_grad():
        policy.actor.sigma.layer.weight.mul_(1e4)
    std = distribution_of(policy, obs).stddev
    assert float(std.min()) >= 1e-3
    assert float(std.max()) > 10.0 * float(std.min())
    assert std.isfinite().all()


# The least standard deviation


@pytest.mark.parametrize("distribution", ["gaussian", "squashed_gaussian"])
@pytest.mark.parametrize("std", ["free", "state_dependent"])
def test_the_standard_deviation_starts_where_it_should_and_stays_above_the_least(distribution: str, std: str):
    policy = make_policy(OBS, BOX, distribution=distribution, std=std, initial_std=0.5, min_std=0.2)
    obs = observations(50)
    torch.testing.assert_close(distribution_of(policy, obs).stddev, torch.full((50, 2), 0.5), rtol=0, atol=0.02)
    with torch.no_grad():
        for parameter in policy.actor.sigma.parameters():
            parameter.sub_(50.0)
    smallest = distribution_of(policy, obs).stddev.min()
    torch.testing.assert_close(smallest, torch.tensor(0.2), rtol=0, atol=1e-6)


def test_gaussian_base_is_known_to_tianshou():
    """Its batches slice distributions by these types."""
    for name in ("gaussian", "gsde"):
        dist = distribution_of(make_policy(OBS, BOX, **DISTRIBUTIONS[name]), observations(5))
        assert isinstance(dist.base_dist, Normal)
        assert Batch(dist=dist, act=dist.mean)[:2].dist.mean.shape == (2, 2)
