"""The trunk of a network."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import OBS_DIM
from tianshou.data import Batch
from tianshou.utils.net.common import Net
from torch import nn

from trpo_ts.critics import make_critic
from trpo_ts.networks import make_trunk
from trpo_ts.policies import make_policy


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
