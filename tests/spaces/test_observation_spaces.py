"""One update through the collector and trainer of Tianshou on every observation space."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from space_tasks import BOX, DISCRETE, OBSERVATIONS, assert_one_update_keeps_the_promises, env_of

from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_one_update_on_every_observation_space(name: str, action_space: spaces.Space):
    torch.manual_seed(0)
    space = env_of(OBSERVATIONS[name], action_space).observation_space
    policy, critic = make_policy(space, action_space), make_critic(space)
    assert_one_update_keeps_the_promises(OBSERVATIONS[name], policy, critic)
