"""The distributions of continuous actions, and what the environment gets of them."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from dense import dense, gauss_newton_product
from gymnasium import spaces
from tianshou.data import Batch
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Beta,
    Distribution,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
    kl_divergence,
)

from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions.constants import frozen
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.distributions.samplers import OpenBeta
from trpo_ts.policies import make_policy
from trpo_ts.solver.fisher import kl_hessian_product

OBS = spaces.Box(-np.inf, np.inf, (3,))
BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "state-dependent std": {"std": "state_dependent"},
    "squashed": {"distribution": "squashed_gaussian"},
    "beta": {"distribution": "beta"},
    "gsde": {"distribution": "gsde"},
}
distributions = pytest.mark.parametrize("name", DISTRIBUTIONS)


def observations(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


def distribution_of(policy: Any, obs: Tensor) -> Distribution:
    with torch.no_grad():
        return ActionDistribution(policy)(obs, Batch())


def sample_of(policy: Any, obs: Tensor) -> Tensor:
    with policy_within_training_step(policy), torch.no_grad():
        return policy(Batch(obs=obs, info=Batch())).act


# What the environment gets

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
    density = frozen(distribution_of(policy, observations(4))).log_prob(torch.as_tensor(stored))
    assert density.isfinite().all()
    np.testing.assert_allclose(policy.map_action(stored.astype(np.float32)), sent, atol=1e-5)


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


# Beta


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
    assert frozen(Independent(dist, 1)).log_prob(act.double()).isfinite().all()


def test_samples_of_an_open_beta_keep_off_the_ends_and_follow_torchs_distribution():
    torch.manual_seed(0)
    extreme = OpenBeta(torch.tensor([0.01, 1e6]), torch.tensor([0.01, 1.001]))
    drawn = extreme.sample((10_000,))
    assert 0.0 < float(drawn.min()) <= float(drawn.max()) < 1.0
    assert extreme.log_prob(drawn).isfinite().all()
    usual, twin = OpenBeta(*torch.tensor([2.0, 3.0])), Beta(*torch.tensor([2.0, 3.0]))
    assert float(kl_divergence(usual, twin)) == 0.0
    drawn = usual.sample((50_000,))
    assert float(drawn.mean()) == pytest.approx(float(twin.mean), abs=5e-3)
    assert float(drawn.std()) == pytest.approx(float(twin.stddev), abs=5e-3)


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


# gSDE


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
        frozen(dist).log_prob(dist.mean.double())
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


# All of them


@distributions
def test_every_distribution_has_its_closed_form_fisher_matrix(name: str):
    torch.manual_seed(1)
    policy = make_policy(OBS, BOX, hidden_sizes=(4,), **DISTRIBUTIONS[name]).double()
    parameters = FlatParameters(ActionDistribution(policy))
    theta = parameters.read().add_(0.3 * torch.randn_like(parameters.read())).requires_grad_(True)
    dist = parameters.call(theta, observations(20).double(), Batch())
    metric = fisher_metric(dist)
    assert metric is not None
    size = theta.numel()
    product = dense(gauss_newton_product(metric, theta), size)
    torch.testing.assert_close(product, dense(kl_hessian_product(frozen(dist), dist, theta), size))


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
        ({"distribution": "beta", "initial_std": math.inf}, "initial_std must be a number > 0, got inf"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(kwargs: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_policy(OBS, BOX, **kwargs)


@pytest.mark.parametrize("kwargs", [{"distribution": "beta"}, {"std": "state_dependent"}], ids=str)
def test_distributions_of_a_box_are_refused_for_other_actions(kwargs: dict[str, Any]):
    with pytest.raises(ValueError, match=r"^distribution and std are for a Box of actions, got .* for Discrete\(2\)"):
        make_policy(OBS, spaces.Discrete(2), **kwargs)


def test_gaussian_base_is_known_to_tianshou():
    """Its batches slice distributions by these types."""
    for name in ("gaussian", "gsde"):
        dist = distribution_of(make_policy(OBS, BOX, **DISTRIBUTIONS[name]), observations(5))
        assert isinstance(dist.base_dist, Normal)
        assert Batch(dist=dist, act=dist.mean)[:2].dist.mean.shape == (2, 2)
