"""The policies of make_policy: shapes, the start, acting, copies, what is refused."""

from __future__ import annotations

import copy
import doctest
import math
import pickle
import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from factory_cases import (
    BOUNDED,
    DISCRETE,
    OBS,
    UNBOUNDED,
    act_on,
    actions,
    assert_orthogonal,
    linear_layers,
    observations,
)
from gymnasium import spaces
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

from trpo_ts.critics import make_critic
from trpo_ts.policies import diagonal_gaussian, factory, make_policy

# --- shapes and sizes


@pytest.mark.parametrize("shape", [(5,), (1,), (3, 4), (8, 8, 3)], ids=str)
@pytest.mark.parametrize("rows", [1, 7])
def test_a_gaussian_policy_gives_one_joint_distribution_per_observation(shape: tuple[int, ...], rows: int):
    space = spaces.Box(-1, 1, shape)
    result = act_on(make_policy(space, BOUNDED), observations(rows, space))
    assert isinstance(result.dist, Independent)
    assert isinstance(result.dist.base_dist, Normal)
    assert (result.dist.batch_shape, result.dist.event_shape) == ((rows,), (2,))
    assert result.act.shape == (rows, 2)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_categorical_policy_gives_one_distribution_over_the_actions_per_observation(n: int):
    result = act_on(make_policy(OBS, spaces.Discrete(n)), observations(7))
    assert isinstance(result.dist, Categorical)
    assert (result.dist.batch_shape, result.dist.event_shape, result.dist.probs.shape) == ((7,), (), (7, n))
    assert result.act.shape == (7,)


def test_images_of_bytes_are_observations():
    space = spaces.Box(0, 255, (8, 8, 3), dtype=np.uint8)
    image = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    assert act_on(make_policy(space, DISCRETE), image).act.shape == (2,)
    assert make_critic(space)(image).shape == (2, 1)


@pytest.mark.parametrize(
    ("hidden_sizes", "widths"),
    [((64, 64), [(5, 64), (64, 64)]), ([32], [(5, 32)]), (np.array([8, 4, 2]), [(5, 8), (8, 4), (4, 2)])],
    ids=str,
)
def test_hidden_sizes_are_the_widths_of_the_layers(hidden_sizes: Any, widths: list[tuple[int, int]]):
    last = widths[-1][1]
    for network, head in [
        (make_policy(OBS, BOUNDED, hidden_sizes=hidden_sizes), (last, 2)),
        (make_policy(OBS, DISCRETE, hidden_sizes=hidden_sizes), (last, 4)),
        (make_critic(OBS, hidden_sizes=hidden_sizes), (last, 1)),
    ]:
        assert [(layer.in_features, layer.out_features) for layer in linear_layers(network)] == [*widths, head]


@pytest.mark.parametrize("activation", [nn.Tanh, nn.SiLU])
def test_the_activation_follows_each_hidden_layer(activation: type[nn.Module]):
    for network in (
        make_policy(OBS, BOUNDED, activation=activation),
        make_policy(OBS, DISCRETE, activation=activation),
        make_critic(OBS, activation=activation),
    ):
        assert sum(isinstance(module, activation) for module in network.modules()) == 2


# --- the start


@actions
def test_weights_start_orthogonal_and_biases_zero(action_space: gym.Space):
    *trunk, head = linear_layers(make_policy(OBS, action_space))
    for layer in trunk:
        assert_orthogonal(layer, math.sqrt(2))
    assert_orthogonal(head, 0.01)
    assert all(float(layer.bias.detach().abs().max()) == 0.0 for layer in (*trunk, head))


@pytest.mark.parametrize("initial_std", [0.6, 0.1, 2.0])
def test_a_gaussian_policy_starts_centred_with_the_same_spread_everywhere(initial_std: float):
    for space in (BOUNDED, UNBOUNDED):
        dist = act_on(make_policy(OBS, space, initial_std=initial_std), 10 * observations(500)).dist
        torch.testing.assert_close(dist.stddev, torch.full((500, 2), initial_std))
        # The trunk's outputs are in [-1, 1]: 64 of them through a row of norm 0.01.
        assert float(dist.mean.abs().max()) <= 0.01 * math.sqrt(64)


def test_a_categorical_policy_starts_nearly_uniform_everywhere():
    dist = act_on(make_policy(OBS, DISCRETE), 10 * observations(500)).dist
    assert float((dist.probs - 0.25).abs().max()) < 0.03
    assert float(dist.entropy().min()) > 0.999 * math.log(4)


def test_the_standard_deviation_is_a_parameter_per_action_that_no_observation_changes():
    policy = make_policy(OBS, BOUNDED)
    with torch.no_grad():
        policy.actor.sigma.log_std.copy_(torch.tensor([0.0, math.log(3.0)]))
    dist = act_on(policy, observations(4)).dist
    torch.testing.assert_close(dist.stddev, torch.tensor([[1.0, 3.0]]).expand(4, 2))


def test_the_network_gives_the_logits_of_a_categorical_policy_and_the_unbounded_mean_of_a_gaussian_one():
    categorical, gaussian = make_policy(OBS, DISCRETE), make_policy(OBS, BOUNDED)
    with torch.no_grad():
        for policy, bias in ((categorical, [0.0, 1.0, 5.0, -2.0]), (gaussian, [3.0, -7.0])):
            head = linear_layers(policy)[-1]
            head.weight.zero_()
            head.bias.copy_(torch.tensor(bias))
    weights = np.exp([0.0, 1.0, 5.0, -2.0])
    np.testing.assert_allclose(act_on(categorical, observations(1)).dist.probs[0], weights / weights.sum(), rtol=1e-5)
    assert act_on(gaussian, observations(1)).dist.mean.tolist() == [[3.0, -7.0]]


def test_the_default_standard_deviation_and_sizes_are_those_documented():
    policy = make_policy(OBS, BOUNDED)
    assert float(act_on(policy, observations(1)).dist.stddev[0, 0]) == pytest.approx(0.6)
    assert sum(p.numel() for p in policy.parameters()) == (5 * 64 + 64) + (64 * 64 + 64) + (64 * 2 + 2) + 2
    assert sum(p.numel() for p in make_critic(OBS).parameters()) == (5 * 64 + 64) + (64 * 64 + 64) + (64 + 1)


def test_the_numbers_in_the_documentation_are_those_of_the_code():
    result = doctest.testmod(factory)
    assert result.attempted > 0
    assert result.failed == 0


def test_diagonal_gaussian_sums_over_the_actions_components():
    dist = diagonal_gaussian((torch.zeros(1, 2), torch.tensor([[1.0, 2.0]])))
    # log N(0; 0, 1) + log N(2; 0, 2)
    expected = -math.log(2 * math.pi) - math.log(2) - 0.5
    assert dist.log_prob(torch.tensor([[0.0, 2.0]])).item() == pytest.approx(expected, rel=1e-6)


@actions
def test_building_a_policy_warns_of_nothing(action_space: gym.Space):
    # Recorded, since Tianshou swallows what is raised where it warns.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_policy(OBS, action_space)
    assert [str(warning.message) for warning in caught] == []


# --- what the environment gets


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        ([0.0, 0.0], [0.0, 5.0]),
        ([1.0, 1.0], [2.0, 10.0]),
        ([-1.0, -1.0], [-2.0, 0.0]),
        ([0.5, 0.5], [1.0, 7.5]),
        ([7.0, -7.0], [2.0, 0.0]),
        ([-1e30, 1e30], [-2.0, 10.0]),
    ],
    ids=str,
)
def test_actions_are_clipped_and_scaled_to_bounds(raw: list[float], sent: list[float]):
    policy = make_policy(OBS, BOUNDED)
    got = policy.map_action(np.array([raw], dtype=np.float32))
    np.testing.assert_allclose(got, [sent], rtol=1e-6)
    assert BOUNDED.contains(got[0].astype(np.float32))
    np.testing.assert_allclose(policy.map_action(torch.tensor([raw])), [sent], rtol=1e-6)


@pytest.mark.parametrize("raw", [0.0, 0.5, -1.0, 7.0, -1e6])
def test_actions_without_bounds_are_sent_as_they_are(raw: float):
    got = make_policy(OBS, UNBOUNDED).map_action(np.array([[raw, -raw]], dtype=np.float32))
    assert got.tolist() == [[np.float32(raw), -np.float32(raw)]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_bounds_at_the_end_of_the_floating_range_send_finite_actions(dtype: type):
    # They stand for no bound at all, and their difference is infinite.
    largest = np.finfo(dtype).max
    policy = make_policy(OBS, spaces.Box(-largest, largest, (2,), dtype=dtype))
    with np.errstate(all="ignore"):
        sent = policy.map_action(np.array([[0.0, 0.5], [-1.0, 1.0]], dtype=np.float32))
    assert np.isfinite(sent).all()


def test_discrete_actions_are_sent_as_they_are():
    assert make_policy(OBS, DISCRETE).map_action(np.array([0, 3, 2])).tolist() == [0, 3, 2]


# --- acting


@actions
def test_outside_of_training_the_policy_acts_by_its_mode(action_space: gym.Space):
    policy = make_policy(OBS, action_space)
    result = act_on(policy, observations(50))
    assert torch.equal(result.act, result.dist.mode)
    assert torch.equal(act_on(policy, observations(50)).act, result.act)


@actions
@pytest.mark.parametrize("deterministic_eval", [True, False])
def test_in_training_or_when_asked_to_the_policy_samples(action_space: gym.Space, deterministic_eval: bool):
    policy = make_policy(OBS, action_space, deterministic_eval=deterministic_eval)
    with policy_within_training_step(policy, enabled=deterministic_eval):
        first, second = (act_on(policy, observations(50)).act for _ in range(2))
    assert not torch.equal(first, second)


# --- copies


def outputs(policy: nn.Module) -> Tensor:
    dist = act_on(policy, observations(6)).dist
    return dist.probs if isinstance(dist, Categorical) else torch.cat([dist.mean, dist.stddev])


@actions
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
def test_a_copy_acts_alike_and_shares_nothing(action_space: gym.Space, copied: Any):
    policy = make_policy(OBS, action_space)
    twin = copied(policy)
    before = outputs(policy)
    assert torch.equal(outputs(twin), before)
    assert twin.map_action(np.zeros((1, 2), dtype=np.float32)).tolist() == policy.map_action(np.zeros((1, 2))).tolist()
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(torch.randn_like(p))
    assert torch.equal(outputs(policy), before)
    assert not torch.equal(outputs(twin), before)


# --- what is not supported


NO_OBSERVATIONS = [
    (spaces.Tuple([OBS]), "observation_space", "TupleToDictObservation"),
    (spaces.Dict(a=OBS, b=spaces.Tuple([OBS])), "observation_space['b']", "TupleToDictObservation"),
    (spaces.Text(4), "observation_space", "TransformObservation"),
    (spaces.Sequence(OBS), "observation_space", "TransformObservation"),
    (spaces.Dict(a=spaces.Dict(b=spaces.Text(4))), "observation_space['a']['b']", "TransformObservation"),
    (spaces.Dict(), "observation_space", "TransformObservation"),
    (spaces.Box(-1, 1, (0,)), "observation_space", "TransformObservation"),
    (spaces.Box(-1, 1, (3, 0)), "observation_space", "TransformObservation"),
    (None, "observation_space", "TransformObservation"),
]


@pytest.mark.parametrize(("space", "name", "fix"), NO_OBSERVATIONS, ids=repr)
def test_observations_that_are_no_numbers_are_refused_with_the_fix(space: Any, name: str, fix: str):
    for build in (
        lambda: make_policy(space, BOUNDED),
        lambda: make_policy(space, DISCRETE),
        lambda: make_critic(space),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(name)} must be a Box, Discrete") as caught:
            build()
        assert fix in str(caught.value)


@pytest.mark.parametrize("key", ["keys", "items", "update", "split"])
def test_keys_that_are_methods_of_a_batch_are_refused(key: str):
    with pytest.raises(ValueError, match=f"^observation_space must not have a key .* got '{key}'; rename it"):
        make_critic(spaces.Dict({key: OBS}))


@pytest.mark.parametrize(
    ("space", "must", "fix"),
    [
        (spaces.Dict({"a": BOUNDED}), "be a Box, Discrete, MultiDiscrete or MultiBinary", "FlattenAction"),
        (spaces.Tuple([DISCRETE]), "be a Box, Discrete, MultiDiscrete or MultiBinary", "FlattenAction"),
        (None, "be a Box, Discrete, MultiDiscrete or MultiBinary", "ProbabilisticActorPolicy"),
        (spaces.MultiDiscrete([]), "hold at least one choice", ""),
        (spaces.Box(-1, 1, (0,)), "be a Box of at least one floating-point number", "wrapper"),
        (spaces.Box(0, 5, (2,), dtype=np.int64), "be a Box of at least one floating-point number", "MultiDiscrete"),
        (spaces.Box(0, 1, (2,), dtype=np.uint8), "be a Box of at least one floating-point number", "MultiDiscrete"),
    ],
    ids=repr,
)
def test_actions_that_no_distribution_is_built_for_are_refused_with_the_fix(space: Any, must: str, fix: str):
    with pytest.raises(ValueError, match=f"^action_space must {must}") as caught:
        make_policy(OBS, space)
    assert str(space) in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize("initial_std", [0.0, -0.6, math.nan, math.inf, "0.6", None, True], ids=repr)
def test_an_initial_standard_deviation_is_a_positive_number(initial_std: Any):
    with pytest.raises(ValueError, match=r"^initial_std must be a number > 0") as caught:
        make_policy(OBS, BOUNDED, initial_std=initial_std)
    assert repr(initial_std) in str(caught.value)


@pytest.mark.parametrize("hidden_sizes", [(), [], (0,), (64, -1), (64.0,), (True,), ("64",), "64", 64, None], ids=repr)
def test_hidden_sizes_are_positive_integers(hidden_sizes: Any):
    for build in (
        lambda: make_policy(OBS, BOUNDED, hidden_sizes=hidden_sizes),
        lambda: make_policy(OBS, DISCRETE, hidden_sizes=hidden_sizes),
        lambda: make_critic(OBS, hidden_sizes=hidden_sizes),
    ):
        with pytest.raises(ValueError, match=r"^hidden_sizes"):
            build()


@pytest.mark.parametrize(
    "activation", [nn.Tanh(), torch.tanh, "tanh", None], ids=["instance", "function", "str", "none"]
)
def test_an_activation_is_a_class_of_modules(activation: Any):
    for build in (
        lambda: make_policy(OBS, BOUNDED, activation=activation),
        lambda: make_critic(OBS, activation=activation),
    ):
        with pytest.raises(ValueError, match=r"^activation must"):
            build()
