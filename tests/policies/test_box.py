"""Policies of a Box of actions, whatever their distribution."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from box_cases import BOX, DISTRIBUTIONS, OBS, distribution_of, distributions, observations
from dense import dense, gauss_newton_product
from gymnasium import spaces
from tianshou.data import Batch

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.policies import make_policy
from trpo_ts.policy_map import PolicyMap
from trpo_ts.solver.fisher import kl_hessian_product


@distributions
def test_every_distribution_has_its_closed_form_fisher_matrix(name: str):
    torch.manual_seed(1)
    policy = make_policy(OBS, BOX, hidden_sizes=(4,), **DISTRIBUTIONS[name]).double()
    parameters = FlatParameters(PolicyMap(policy))
    theta = parameters.read().add_(0.3 * torch.randn_like(parameters.read())).requires_grad_(True)
    dist = parameters.call(theta, observations(20).double(), Batch())
    metric = fisher_metric(dist)
    assert metric is not None
    size = theta.numel()
    product = dense(gauss_newton_product(metric, theta), size)
    torch.testing.assert_close(product, dense(kl_hessian_product(detached_double(dist), dist, theta), size))


@distributions
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
def test_a_copy_has_the_same_distributions(name: str, copied: Any):
    policy = make_policy(OBS, BOX, **DISTRIBUTIONS[name])
    twin = copied(policy)
    obs = observations(5)
    assert torch.equal(distribution_of(policy, obs).mean, distribution_of(twin, obs).mean)
    act = np.array([[0.3, 0.8]], np.float32)
    assert np.array_equal(policy.map_action(act), twin.map_action(act))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"distribution": "cauchy"}, "distribution must be one of 'gaussian', 'squashed_gaussian', 'beta', 'gsde'"),
        ({"distribution": None}, "distribution must be one of 'gaussian'"),
        ({"std": "fixed"}, "std must be one of 'free', 'state_dependent', got 'fixed'"),
        ({"std": "state_dependent", "distribution": "beta"}, "std must be 'free' for distribution='beta'"),
        ({"std": "state_dependent", "distribution": "gsde"}, "std must be 'free' for distribution='gsde'"),
        ({"noise_steps": 0}, "noise_steps must be an integer >= 1, got 0"),
        ({"min_std": -0.1}, "min_std must be a number in"),
        ({"min_std": 0.6}, r"min_std must be a number in \[0, 0.6\), got 0.6"),
        ({"min_std": 0.1, "distribution": "beta"}, "min_std is for the Gaussians of a Box of actions, got 0.1"),
        ({"min_std": 0.1, "distribution": "gsde"}, "min_std is for the Gaussians of a Box of actions, got 0.1"),
        ({"distribution": "beta", "initial_std": math.inf}, "initial_std must be a number > 0, got inf"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(kwargs: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_policy(OBS, BOX, **kwargs)


def test_a_least_standard_deviation_is_refused_for_other_actions():
    with pytest.raises(
        ValueError, match=r"^min_std is for the Gaussians of a Box of actions, got 0.1 .* Discrete\(2\)"
    ):
        make_policy(OBS, spaces.Discrete(2), min_std=0.1)


@pytest.mark.parametrize("kwargs", [{"distribution": "beta"}, {"std": "state_dependent"}], ids=str)
def test_distributions_of_a_box_are_refused_for_other_actions(kwargs: dict[str, Any]):
    with pytest.raises(ValueError, match=r"^distribution and std are for a Box of actions, got .* for Discrete\(2\)"):
        make_policy(OBS, spaces.Discrete(2), **kwargs)
