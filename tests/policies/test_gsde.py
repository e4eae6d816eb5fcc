"""Generalised state-dependent exploration."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from box_cases import OBS, distribution_of, observations, sample_of
from gymnasium import spaces
from tianshou.data import Batch
from torch import Tensor

from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.policies import make_policy


def gsde(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    return make_policy(OBS, spaces.Box(-np.inf, np.inf, (2,)), distribution="gsde", **kwargs)


def test_state_dependent_exploration_samples_its_marginal():
    policy = gsde(noise_steps=1)
    with torch.no_grad():
        policy.dist_fn.log_std.add_(torch.randn_like(policy.dist_fn.log_std))
    one = observations(1)
    dist = distribution_of(policy, one)
    drawn = sample_of(policy, one.expand(40_000, -1))
    torch.testing.assert_close(drawn.mean(dim=0), dist.mean[0], rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.std(dim=0), dist.stddev[0], rtol=0.02, atol=0.0)
    assert abs(float(torch.corrcoef(drawn.T)[0, 1])) < 0.02  # components are independent, as the joint density says


@pytest.mark.parametrize("initial_std", [0.2, 0.6, 1.5])
def test_state_dependent_exploration_starts_with_the_same_spread_everywhere(initial_std: float):
    policy = gsde(initial_std=initial_std)
    obs = torch.cat([10 * observations(50), torch.zeros(1, 3)])
    torch.testing.assert_close(distribution_of(policy, obs).stddev, torch.full((51, 2), initial_std))


def test_noise_is_held_for_the_given_steps_for_each_row_its_own():
    policy, obs = gsde(noise_steps=3), observations(4)
    mean = distribution_of(policy, obs).mean
    drawn = [sample_of(policy, obs) - mean for _ in range(7)]
    same = [torch.equal(drawn[i], drawn[i + 1]) for i in range(6)]
    assert same == [True, True, False, True, True, False]
    twice = sample_of(policy, obs[:1].expand(2, -1))
    assert not torch.equal(twice[0], twice[1])


def test_held_noise_is_a_smooth_function_of_the_state():
    policy, obs = gsde(noise_steps=1000), observations(4)

    def deviation(at: Tensor) -> Tensor:
        return sample_of(policy, at) - distribution_of(policy, at).mean

    start = deviation(obs)
    near, far = deviation(obs + 1e-3), deviation(-obs)
    assert float((near - start).abs().max()) < 0.01
    assert float((far - start).abs().max()) > 0.1


def test_evaluating_distributions_leaves_the_held_noise_alone():
    policy, obs = gsde(noise_steps=4), observations(4)
    first = sample_of(policy, obs)
    for rows in (1, 4, 9):
        dist = distribution_of(policy, observations(rows))
        detached_double(dist).log_prob(dist.mean.double())
        dist.rsample()
    with torch.no_grad():
        policy(Batch(obs=obs, info=Batch()))  # acts by the mode
    assert torch.equal(sample_of(policy, obs), first)
    for twin in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert torch.equal(sample_of(twin, obs), first)


def test_noise_follows_the_networks_dtype():
    policy = gsde(noise_steps=5)
    assert sample_of(policy, observations(2)).dtype == torch.float32
    assert sample_of(policy.double(), observations(2)).dtype == torch.float64
