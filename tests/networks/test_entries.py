"""Observations of another space than a network's: the error names what there is and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tianshou.data import Batch

from trpo_ts.critics import make_critic, make_recurrent_critic
from trpo_ts.policies import make_policy, make_recurrent_policy

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)
SPACES: dict[str, tuple[Any, Any, str]] = {
    "a vector": (VECTOR, np.zeros((2, 4)), r"\(N, 3\) .* got \(2, 4\)"),
    "a stack": (VECTOR, np.zeros((2, 4, 3)), r"\(N, 3\) .* got \(2, 4, 3\)"),
    "a scaled vector": (spaces.Box(0, 9, (3,), np.int64), np.zeros((2, 1)), r"\(N, 3\) .* got \(2, 1\)"),
    "an image": (
        IMAGE,
        np.zeros((2, 9, 8, 3)),
        r"\(N, 8, 8, 3\) .* got \(2, 9, 8, 3\)",
    ),
    "categories": (spaces.MultiDiscrete([2, 3]), np.zeros((2, 1)), r"\(N, 2\) .* got \(2, 1\)"),
    "one category": (spaces.Discrete(3), np.zeros((2, 2)), r"\(N, 1\) .* got \(2, 2\)"),
    "an entry": (spaces.Dict(a=VECTOR), Batch(a=np.zeros((2, 4))), r"\(N, 3\) .* got \(2, 4\)"),
}
KEYED = spaces.Dict(observation=VECTOR, action_mask=spaces.MultiBinary(2))


@pytest.mark.parametrize("name", SPACES)
def test_a_shape_that_is_another(name: str) -> None:
    space, obs, shapes = SPACES[name]
    message = rf"^observations must have the shape {shapes}; build policy and critic from the environment's own"
    with pytest.raises(ValueError, match=message):
        make_critic(space)(obs)
    with pytest.raises(ValueError, match=message):
        make_policy(space, spaces.Discrete(2))(Batch(obs=obs, info={}))


def test_numbers_may_come_in_one_row_each() -> None:
    critic = make_critic(spaces.Box(-1.0, 1.0, (2, 2), np.float32))
    obs = torch.rand(5, 2, 2)
    assert torch.equal(critic(obs), critic(obs.reshape(5, 4)))


@pytest.mark.parametrize(
    ("obs", "got"),
    [
        (Batch(obs=np.zeros((2, 3)), mask=np.ones((2, 2))), r"the keys 'obs', 'mask'"),
        (np.zeros((2, 3)), "ndarray"),
        (torch.zeros(2, 3), "Tensor"),
    ],
)
def test_a_key_that_is_missing(obs: Any, got: str) -> None:
    """Tianshou's PettingZooEnv calls them otherwise than its observation_space does."""
    message = rf"^observations must have the key '\w+' of the observation_space .* got {got};"
    action_space = spaces.Discrete(2)
    for network in (make_critic(KEYED), make_recurrent_critic(KEYED)):
        with pytest.raises(ValueError, match=message):
            network(obs)
    for make in (make_policy, make_recurrent_policy):
        policy = make(KEYED, action_space, mask_key="action_mask")
        with pytest.raises(ValueError, match=message):
            policy(Batch(obs=obs, info={}))
        seen = Batch(observation=np.zeros((2, 3), np.float32))
        with pytest.raises(ValueError, match=r"must have the key 'action_mask' .* got the keys 'observation'"):
            policy(Batch(obs=seen, info={}))
