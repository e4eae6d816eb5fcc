"""Networks that were built for other observations: both shapes are named, before anything changes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import BOX, OBS_DIM, OBSERVATIONS, Actor, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.data import Batch
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousCritic
from torch import Tensor, nn

from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy
from trpo_ts.validation.shape_errors import named_shapes

WIDER = spaces.Box(-1.0, 1.0, (5,), np.float32)


def refused(algorithm: Any, buffer: Any, message: str) -> None:
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(ValueError, match=message):
        update(algorithm, buffer)
    after = algorithm.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if isinstance(before[key], Tensor))


CRITICS: dict[str, Any] = {
    "one's own": lambda: Mlp((5, 8, 1)),
    "Tianshou's": lambda: ContinuousCritic(preprocess_net=Net(state_shape=(5,), hidden_sizes=(8,))),
    "a convolution": lambda: nn.Sequential(AsTensor(), nn.Conv1d(5, 1, 1), nn.Flatten()),
}


class AsTensor(nn.Module):
    def forward(self, obs: Any) -> Tensor:
        return torch.as_tensor(obs, dtype=torch.float32)[:, :, None]


@pytest.mark.parametrize("name", CRITICS)
def test_a_critic(name: str) -> None:
    policy = make_actor_policy()
    message = r"^critic must take the environment's observations, of shape \(3,\), got a \w+ whose first layer is .*5"
    refused(make_trpo(policy, CRITICS[name]()), make_rollout(policy), message)


def test_a_policy_of_another_rollout() -> None:
    buffer = make_rollout(make_actor_policy())
    other = make_actor_policy(actor=Actor(Mlp((5, 2)), -0.5))
    message = r"^policy must take the environment's observations, of shape \(3,\), got .* whose first layer is Linear"
    refused(make_trpo(other), buffer, message)


def test_networks_of_this_package_name_both_in_any_place() -> None:
    message = r"^observations must have the shape \(N, 5\) of the observation_space .* built for, got \(\d+, 3\)"
    policy = make_actor_policy()
    refused(make_trpo(policy, make_critic(WIDER)), make_rollout(policy), message)
    with pytest.raises(ValueError, match=message):  # as a collector calls it
        make_policy(WIDER, BOX)(Batch(obs=np.zeros((2, OBS_DIM), np.float32), info={}))


def test_another_error_of_torchs_is_left_as_it_is() -> None:
    network = Mlp((OBS_DIM, 1))
    with pytest.raises(RuntimeError, match="something else"), named_shapes("critic", network, np.zeros((2, OBS_DIM))):
        raise RuntimeError("something else")
    with pytest.raises(RuntimeError, match="nested"), named_shapes("critic", network, Batch(a=np.zeros((2, 7)))):
        raise RuntimeError("nested")
    image = np.zeros((2, 3, 8, 8))
    with pytest.raises(RuntimeError, match="fits"), named_shapes("critic", nn.Conv2d(3, 4, 3), image):
        raise RuntimeError("fits")
    with named_shapes("critic", network, np.zeros((2, OBS_DIM))):
        assert make_critic(OBSERVATIONS)(torch.zeros(2, OBS_DIM)).shape == (2, 1)
