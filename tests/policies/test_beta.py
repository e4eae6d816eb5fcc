"""Beta policies."""

from __future__ import annotations

import pytest
import torch
from box_cases import BOX, OBS, distribution_of, observations, sample_of
from torch.distributions import Independent

from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.policies import make_policy


@pytest.mark.parametrize("initial_std", [0.1, 0.3, 0.5])
def test_beta_starts_centred_with_the_given_spread(initial_std: float):
    dist = distribution_of(make_policy(OBS, BOX, distribution="beta", initial_std=initial_std), observations(100))
    torch.testing.assert_close(dist.mean, torch.full((100, 2), 0.5), rtol=0, atol=0.02)
    torch.testing.assert_close(2.0 * dist.stddev, torch.full((100, 2), initial_std), rtol=0.02, atol=0.0)


def test_beta_has_one_mode_wherever_its_network_leads():
    policy = make_policy(OBS, BOX, distribution="beta")
    with torch.no_grad():
        for head in (policy.actor.alpha, policy.actor.beta):
            head.weight.mul_(1e5)
    dist = distribution_of(policy, observations(500)).base_dist
    assert float(dist.concentration1.min()) > 1.0
    assert float(dist.concentration0.min()) > 1.0
    assert dist.mode.isfinite().all()
    act = sample_of(policy, observations(500))
    assert 0.0 < float(act.min()) <= float(act.max()) < 1.0
    assert detached_double(Independent(dist, 1)).log_prob(act.double()).isfinite().all()
