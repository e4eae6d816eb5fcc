"""The encoder of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.data import Batch
from torch import nn

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.envs.image_shapes import channel_axis
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.networks import make_trunk
from trpo_ts.networks.encoders import make_encoder
from trpo_ts.policies import make_policy
from trpo_ts.policy_map import PolicyMap


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
    parameters = FlatParameters(PolicyMap(policy))
    forward_pass = parameters.forward_pass(parameters.read().requires_grad_(True), images, Batch())
    factors = kronecker_factors(forward_pass, fisher_metric(forward_pass.value))
    layers = [name for group in factors.groups for name in group.names]
    assert len(layers) == 2 + 2 + 1  # convolutions, hidden layers, mean
    assert len(factors.diagonal) == 1  # the standard deviation
    gradient = torch.autograd.grad(
        forward_pass.value.log_prob(torch.ones(5, 2)).sum(), list(forward_pass.views.values())
    )
    assert all(float(part.abs().max()) > 0.0 for part in gradient)
