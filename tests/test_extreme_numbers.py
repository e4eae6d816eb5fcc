"""Observations, actions and rewards near the ends of the floating range."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import BOX, OBSERVATIONS, make_actor_policy, make_rollout, make_trpo, mean_kl, parameters_of, same, update

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.policies import make_policy


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_an_action_of_no_density_leaves_finite_stats(edge: float):
    policy = make_policy(OBSERVATIONS, BOX, distribution="beta")
    buffer = make_rollout(policy)
    buffer._meta.act[3] = edge
    before = parameters_of(policy)
    stats = update(make_trpo(policy), buffer)
    assert stats.accepted == 0.0
    assert same(before, policy)
    numbers = stats.get_loss_stats_dict()
    assert numbers["kl"] == 0.0
    assert all(math.isfinite(value) for value in numbers.values())


@pytest.mark.parametrize("size", [1e12, 1.7e18, 1e30])
@pytest.mark.parametrize("fit", [None, GaussNewtonFit()])
def test_a_huge_observation_does_not_end_the_update(size: float, fit: Any):
    torch.manual_seed(0)
    policy = make_actor_policy(hidden=(64, 64))
    buffer = make_rollout(policy, n_envs=8, length=32)
    for part in buffer.buffers:
        part._meta.obs[:, 2] = size
        part._meta.obs_next[:, 2] = size
    stats = update(make_trpo(policy, critic_fit=fit), buffer)
    assert stats.kl.mean <= 0.01
    assert all(torch.isfinite(p).all() for p in policy.parameters())


@pytest.mark.parametrize("scale", [1e200, 1e300])
def test_huge_rewards_of_float64_do_not_end_the_update(scale: float):
    policy = make_actor_policy(dtype=torch.float64)
    stats = update(make_trpo(policy), make_rollout(policy, reward_scale=scale))
    assert np.isfinite(stats.explained_variance)


def test_observations_in_tiny_units_keep_the_trust_region():
    for seed in range(12):
        torch.manual_seed(seed)
        policy = make_actor_policy(discrete=True, hidden=(16, 16))
        layers = policy.actor.body.layers
        with torch.no_grad():
            for i in (0, 2, 4):
                layers[i].bias.zero_()
            layers[4].weight.div_(1e-7)
        before, buffer = copy.deepcopy(policy), make_rollout(policy, obs_scale=1e-7)
        stats = update(make_trpo(policy, max_kl=0.05), buffer)
        assert stats.kl.mean <= 0.05
        assert mean_kl(before, policy, buffer) == pytest.approx(stats.kl.mean, rel=1e-3, abs=1e-6)
