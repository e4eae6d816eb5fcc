"""One update with every option of the networks, shared trunks and trunks of a user."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from gymnasium import spaces
from space_tasks import (
    BOX,
    DISCRETE,
    OBSERVATIONS,
    VECTOR,
    assert_one_update_keeps_the_promises,
    distribution_of,
    env_of,
    train,
)
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import nn
from torch.distributions import kl_divergence

from trpo_ts.critics import GaussNewtonFit, make_critic
from trpo_ts.networks import make_trunk
from trpo_ts.policies import make_policy


def normalising_trunk() -> ModuleWithVectorOutput:
    """A trunk of a user's own, with a layer of each kind that behaves otherwise in training."""

    class Own(ModuleWithVectorOutput):
        def __init__(self) -> None:
            super().__init__(8)
            self.layers = nn.Sequential(
                nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.LayerNorm(8)
            )

        def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
            return self.layers(torch.as_tensor(obs)), state

    return Own()


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("fit", [None, GaussNewtonFit()], ids=["optimiser", "Gauss-Newton"])
@pytest.mark.parametrize("trunk", [lambda: make_trunk(VECTOR), normalising_trunk], ids=["ours", "normalising"])
def test_a_shared_trunk_is_moved_by_the_policy_alone(trunk: Any, fit: Any, action_space: spaces.Space):
    torch.manual_seed(3)
    shared = trunk()
    policy, critic = make_policy(VECTOR, action_space, trunk=shared), make_critic(VECTOR, trunk=shared)
    before, values = copy.deepcopy(policy), copy.deepcopy(critic.last)
    _, recorder, rollout = train(
        lambda: env_of(VECTOR, action_space), policy, critic, critic_fit=fit, optim=AdamOptimizerFactory(lr=0.1)
    )
    kl = float(kl_divergence(distribution_of(before, rollout), distribution_of(policy, rollout)).mean())
    assert 0.0 < kl <= 0.01 * (1.0 + 1e-3)
    assert recorder.updates[0].kl == pytest.approx(kl, rel=1e-2)
    assert not torch.equal(values.weight, critic.last.weight)
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), policy.buffers(), strict=True))


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("observations", ["dict", "vector"])
@pytest.mark.parametrize(
    "options", [{"layer_norm": True}, {"activation": nn.ReLU, "hidden_sizes": (16,)}], ids=["layer norm", "ReLU"]
)
def test_one_update_on_every_network_option(options: Any, observations: str, action_space: spaces.Space):
    torch.manual_seed(4)
    space = OBSERVATIONS[observations]
    policy, critic = make_policy(space, action_space, **options), make_critic(space, **options)
    assert_one_update_keeps_the_promises(space, policy, critic)


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
def test_one_update_on_trunks_of_a_user(action_space: spaces.Space):
    torch.manual_seed(9)
    policy = make_policy(VECTOR, action_space, trunk=normalising_trunk())
    critic = make_critic(VECTOR, trunk=normalising_trunk())
    assert_one_update_keeps_the_promises(VECTOR, policy, critic)


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("observations", ["dict", "vector", "image of bool"])
@pytest.mark.parametrize("critic_dtype", [torch.float64, torch.float32], ids=["with the critic", "without"])
def test_float64_networks_run_end_to_end(critic_dtype: torch.dtype, observations: str, action_space: spaces.Space):
    torch.manual_seed(5)
    space = OBSERVATIONS[observations]
    policy, critic = make_policy(space, action_space).double(), make_critic(space).to(critic_dtype)
    assert_one_update_keeps_the_promises(space, policy, critic)
    assert {p.dtype for p in policy.parameters()} == {torch.float64}
    assert {p.dtype for p in critic.parameters()} == {critic_dtype}
