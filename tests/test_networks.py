"""What the encoders and trunks compute."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rollouts import OBS_DIM
from tianshou.data import Batch
from tianshou.utils.net.common import Net
from torch import Tensor, nn

from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.critics import make_critic
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.envs import TupleToDictObservation
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.networks import make_trunk
from trpo_ts.networks.encoders import make_encoder
from trpo_ts.networks.images import channel_axis
from trpo_ts.policies import make_policy

LIKE = torch.zeros(1, dtype=torch.float64)


def encoded(space: spaces.Space, obs: Any) -> Tensor:
    return make_encoder(space, nn.Tanh)(obs, LIKE)


# Numbers and categories


def test_floating_numbers_are_taken_as_they_are():
    for space in (spaces.Box(-10, 10, (2, 2)), spaces.Box(-np.inf, np.inf, (2, 2))):
        assert encoded(space, np.array([[[7.0, -2.0], [0.5, 3.0]]])).tolist() == [[7.0, -2.0, 0.5, 3.0]]
    assert encoded(spaces.Box(-1, 1, ()), np.array([0.25, 0.5])).tolist() == [[0.25], [0.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int64])
def test_integers_are_scaled_by_their_bounds(dtype: type):
    space = spaces.Box(np.array([0, 20], dtype), np.array([100, 120], dtype), dtype=dtype)
    np.testing.assert_allclose(encoded(space, np.array([[50, 20], [0, 120]], dtype)), [[0.5, 0.0], [0.0, 1.0]])


def test_integers_without_levels_are_taken_as_they_are():
    unbounded = spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (1,), dtype=np.int64)
    for space in (unbounded, spaces.Box(0, 10**6, (1,), dtype=np.int64)):
        assert encoded(space, np.array([[123456]])).tolist() == [[123456.0]]


def test_bits_are_zeros_and_ones():
    assert encoded(spaces.MultiBinary(3), np.array([[1, 0, 1]], np.int8)).tolist() == [[1.0, 0.0, 1.0]]
    assert encoded(spaces.Box(0, 1, (2,), dtype=bool), np.array([[True, False]])).tolist() == [[1.0, 0.0]]


def test_categories_are_one_hot_from_their_start():
    assert encoded(spaces.Discrete(3), np.array([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert encoded(spaces.Discrete(3, start=-1), np.array([-1, 1])).tolist() == [[1, 0, 0], [0, 0, 1]]
    space = spaces.MultiDiscrete([2, 3], start=[5, -1])
    assert encoded(space, np.array([[6, -1], [5, 1]])).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([[2, 3], [4, 1]]), spaces.MultiDiscrete([3])], ids=str)
def test_every_category_has_a_place_of_its_own(space: spaces.MultiDiscrete):
    space.seed(0)
    obs = np.stack([space.sample() for _ in range(50)])
    places = encoded(space, obs)
    assert places.shape == (50, space.nvec.sum())
    assert (places.sum(dim=1) == space.nvec.size).all()
    same_obs = (obs.reshape(50, 1, -1) == obs.reshape(1, 50, -1)).all(axis=2)
    same_places = (places.unsqueeze(0) == places.unsqueeze(1)).all(dim=2)
    np.testing.assert_array_equal(same_obs, same_places)


def test_a_dict_is_its_entries_side_by_side():
    space = spaces.Dict({"x.y": spaces.Box(-1, 1, (2,)), "in": spaces.Dict(mode=spaces.Discrete(2))})
    obs = {"x.y": np.array([[0.5, -0.5]]), "in": {"mode": np.array([1])}}
    expected = {"x.y": [0.5, -0.5], "in": [0.0, 1.0]}
    row = [number for key in space.spaces for number in expected[key]]
    for batch in (obs, Batch(obs)):
        assert encoded(space, batch).tolist() == [row]


@st.composite
def nested_spaces(draw: Any, depth: int = 2) -> spaces.Space:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    counts = draw(arrays(np.int64, shape or (1,), elements=st.integers(1, 4)))
    starts = draw(arrays(np.int64, counts.shape, elements=st.integers(-3, 3)))
    kinds = [
        lambda: spaces.Box(-1, 1, shape),
        lambda: spaces.Discrete(int(counts.flat[0]), start=int(starts.flat[0])),
        lambda: spaces.MultiDiscrete(counts, start=starts),
        lambda: spaces.MultiBinary(list(counts.shape)),
    ]
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(kinds))()
    keys = draw(st.lists(st.text("abc.", min_size=1), min_size=1, max_size=3, unique=True))
    return spaces.Dict({key: draw(nested_spaces(depth - 1)) for key in keys})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(nested_spaces())
def test_without_images_the_encoder_is_gymnasiums_flattening(space: spaces.Space):
    space.seed(0)
    samples = [space.sample() for _ in range(3)]
    obs = Batch(samples) if isinstance(space, spaces.Dict) else np.stack(samples)
    expected = np.stack([spaces.flatten(space, sample) for sample in samples])
    np.testing.assert_array_equal(encoded(space, obs), expected.astype(np.float64))


# Images


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((84, 84, 4), 2),
        ((4, 84, 84), 0),
        ((84, 84, 1), 2),
        ((1, 84, 84), 0),
        ((210, 160, 3), 2),
        ((3, 210, 160), 0),
        ((10, 10, 16), 2),
        ((16, 10, 10), 0),
        ((8, 8, 8), 2),
        ((4, 5, 1), 2),
        ((3, 2, 2), None),
        ((3, 100, 3), None),
        ((84, 84), None),
        ((2, 3, 8, 8), None),
    ],
    ids=str,
)
def test_the_axis_of_the_channels(shape: tuple[int, ...], axis: int | None):
    assert channel_axis(shape) == axis


@pytest.mark.parametrize(
    "sides", [(4, 4), (4, 50), (11, 11), (12, 12), (35, 60), (36, 36), (84, 84), (210, 160)], ids=str
)
def test_convolutions_fit_every_size(sides: tuple[int, int]):
    space = spaces.Box(0, 255, (*sides, 3), dtype=np.uint8)
    encoder = make_encoder(space, nn.ReLU)
    features = encoder(np.zeros((2, *space.shape), np.uint8), torch.zeros(1))
    assert features.shape == (2, encoder.output_dim)
    assert 64 <= encoder.output_dim < 25_000
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == {4: 1, 11: 1, 12: 2, 35: 2}.get(min(sides), 3)


def test_bytes_and_both_orders_of_axes_give_the_same_features():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 12, 14, 3), dtype=np.uint8)
    cases = [
        (spaces.Box(0, 255, (12, 14, 3), dtype=np.uint8), image),
        (spaces.Box(0, 255, (3, 12, 14), dtype=np.uint8), image.transpose(0, 3, 1, 2)),
        (spaces.Box(0, 1, (12, 14, 3)), (image / 255).astype(np.float32)),
        (spaces.Box(-1, 1, (12, 14, 3)), (2 * (image / 255) - 1).astype(np.float32)),
    ]
    encoders = [make_encoder(space, nn.Tanh) for space, _ in cases]
    for encoder in encoders[1:]:
        encoder.load_state_dict(encoders[0].state_dict())
    features = [encoder(obs, torch.zeros(1)) for encoder, (_, obs) in zip(encoders, cases, strict=True)]
    for other in features[1:]:
        torch.testing.assert_close(other, features[0], rtol=1e-4, atol=1e-5)


def test_an_image_beside_numbers_is_narrowed_to_the_first_hidden_width():
    space = spaces.Dict(camera=spaces.Box(0, 255, (36, 36, 3), dtype=np.uint8), position=spaces.Box(-1, 1, (2,)))
    assert make_trunk(space, (32, 16)).encoder.output_dim == 32 + 2


def test_an_image_policy_is_modelled_layer_by_layer():
    torch.manual_seed(0)
    space = spaces.Box(0, 255, (12, 12, 1), dtype=np.uint8)
    policy = make_policy(space, spaces.Box(-1, 1, (2,)))
    images = torch.as_tensor(np.random.default_rng(0).integers(0, 256, (5, *space.shape), dtype=np.uint8))
    parameters = FlatParameters(ActionDistribution(policy))
    trace = parameters.trace(parameters.read().requires_grad_(True), images, Batch())
    moments = kronecker_factors(trace, fisher_metric(trace.output))
    layers = [name for group in moments.groups for name in group.names]
    assert len(layers) == 2 + 2 + 1  # convolutions, hidden layers, mean
    assert len(moments.diagonal) == 1  # the standard deviation
    gradient = torch.autograd.grad(trace.output.log_prob(torch.ones(5, 2)).sum(), list(trace.parts.values()))
    assert all(float(part.abs().max()) > 0.0 for part in gradient)


# Trunks


def test_a_trunk_is_called_as_tianshous_networks_are():
    obs = np.zeros((4, OBS_DIM), np.float32)
    for trunk in (make_trunk(spaces.Box(-1, 1, (OBS_DIM,)), (8, 5)), Net(state_shape=OBS_DIM, hidden_sizes=(8, 5))):
        assert trunk.get_output_dim() == 5
        features, state = trunk(obs, state=None, info=Batch())
        assert features.shape == (4, 5)
        assert state is None
        assert make_critic(spaces.Box(-1, 1, (OBS_DIM,)), trunk=trunk)(obs).shape == (4, 1)


@pytest.mark.parametrize("trunk", [nn.Linear(3, 3), "mlp", make_trunk], ids=["module", "str", "function"])
def test_a_trunk_says_how_many_features_it_has(trunk: Any):
    space = spaces.Box(-1, 1, (3,))
    for build in (lambda: make_policy(space, spaces.Discrete(2), trunk=trunk), lambda: make_critic(space, trunk=trunk)):
        with pytest.raises(ValueError, match=r"^trunk must be a ModuleWithVectorOutput, got .*make_trunk"):
            build()


def test_layer_norm_stands_before_each_activation():
    trunk = make_trunk(spaces.Box(-1, 1, (3,)), (8, 5), nn.SiLU, layer_norm=True)
    kinds = [type(layer) for layer in trunk.layers]
    assert kinds == [nn.Linear, nn.LayerNorm, nn.SiLU] * 2
    scaled = [trunk(torch.tensor([[1.0, 2.0, 3.0]]) * scale)[0] for scale in (10.0, 1000.0)]
    torch.testing.assert_close(*scaled, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", ["yes", None, 2], ids=repr)
def test_layer_norm_is_a_bool(value: Any):
    with pytest.raises(ValueError, match=r"^layer_norm must be True or False"):
        make_critic(spaces.Box(-1, 1, (3,)), layer_norm=value)


def test_networks_compute_in_their_own_dtype_and_are_copied_whole():
    space = spaces.Dict(
        camera=spaces.Box(0, 255, (12, 12, 1), dtype=np.uint8), x=spaces.Box(-1, 1, (2,)), mode=spaces.Discrete(2)
    )
    space.seed(0)
    obs = Batch([space.sample() for _ in range(3)])
    critic = make_critic(space).double()
    assert critic(obs).dtype == torch.float64
    for twin in (copy.deepcopy(critic), pickle.loads(pickle.dumps(critic))):
        assert torch.equal(twin(obs), critic(obs))
    torch.testing.assert_close(critic.float()(obs).double(), critic.double()(obs), rtol=1e-5, atol=1e-6)
    assert not any("scale" in name for name in critic.state_dict())


# Tuples


def test_tuples_become_dicts_at_every_level():
    class Env(gym.Env):
        observation_space = spaces.Tuple([spaces.Discrete(3), spaces.Dict(x=spaces.Tuple([spaces.Discrete(2)]))])
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return (1, {"x": (0,)}), {}

        def step(self, action):
            return (2, {"x": (1,)}), 0.0, False, False, {}

    env = TupleToDictObservation(Env())
    assert env.observation_space == spaces.Dict(
        {"0": spaces.Discrete(3), "1": spaces.Dict(x=spaces.Dict({"0": spaces.Discrete(2)}))}
    )
    assert env.reset()[0] == {"0": 1, "1": {"x": {"0": 0}}}
    assert env.step(0)[0] == {"0": 2, "1": {"x": {"0": 1}}}
    assert env.observation_space.contains(env.step(0)[0])


def test_the_examples_of_the_documentation_run():
    page = (Path(__file__).resolve().parent.parent / "docs" / "spaces.md").read_text()
    sections = dict(section.split("\n", 1) for section in page.split("\n## ")[1:])
    text = sections["Observations"] + sections["Networks and distributions"]
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        exec(code, names)
    assert names["policy"].actor.preprocess is names["critic"].preprocess is names["trunk"]
    obs = names["env"].observation_space.sample()
    assert names["critic"](Batch([obs])).shape == (1, 1)
