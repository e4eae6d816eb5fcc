"""The networks of make_critic."""

from __future__ import annotations

import copy
import math
import pickle

import torch
from factory_cases import OBS, assert_orthogonal, linear_layers, observations
from gymnasium import spaces

from trpo_ts.critics import make_critic


def test_a_critic_gives_one_value_per_observation():
    for shape in ((5,), (3, 4), (8, 8, 3)):
        space = spaces.Box(-1, 1, shape)
        assert make_critic(space)(torch.as_tensor(observations(7, space))).shape == (7, 1)


def test_the_weights_of_a_critic_start_orthogonal_and_biases_zero():
    *trunk, head = linear_layers(make_critic(OBS))
    for layer in trunk:
        assert_orthogonal(layer, math.sqrt(2))
    assert_orthogonal(head, 1.0)
    assert all(float(layer.bias.detach().abs().max()) == 0.0 for layer in (*trunk, head))


def test_a_critic_can_be_copied():
    critic, obs = make_critic(OBS), torch.as_tensor(observations(6))
    for twin in (copy.deepcopy(critic), pickle.loads(pickle.dumps(critic))):
        assert torch.equal(twin(obs), critic(obs))
