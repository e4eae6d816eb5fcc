"""Networks that a user has compiled: updates are those of the networks as written, and nothing is compiled anew."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from rollouts import BOX, OBS_DIM, OBSERVATIONS, Mlp, make_actor_policy, make_rollout, make_trpo, update
from sequenced import collected
from tianshou.data import Batch
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn

import trpo_ts.uncompiled
from trpo_ts import TRPO
from trpo_ts.critics import GaussNewtonFit, make_critic, make_recurrent_critic
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.solver import trust_region_update
from trpo_ts.uncompiled import original, uncompiled

graphs: list[Any] = []


def counting(graph: Any, inputs: Any) -> Any:
    """A backend of torch.compile that counts how often it compiles; the code that it gives has no second derivative."""
    graphs.append(graph)
    return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    graphs.clear()
    yield
    torch._dynamo.reset()


def compiled_actor(policy: Any, critic: nn.Module) -> Any:
    policy.actor = torch.compile(policy.actor, backend=counting)
    return policy, critic


def compiled_critic(policy: Any, critic: nn.Module) -> Any:
    return policy, torch.compile(critic, backend=counting)


def compiled_policy(policy: Any, critic: nn.Module) -> Any:
    return torch.compile(policy, backend=counting), critic


def compiled_in_place(policy: Any, critic: nn.Module) -> Any:
    for module in (policy.actor, critic):
        module.compile(backend=counting)
    return policy, critic


def compiled_submodules(policy: Any, critic: nn.Module) -> Any:
    for module in (policy.actor, critic):
        module.preprocess = torch.compile(module.preprocess, backend=counting)
    return policy, critic


def compiled_layers(policy: Any, critic: nn.Module) -> Any:
    for module in (policy.actor, critic):
        module.preprocess.layers = torch.compile(module.preprocess.layers, backend=counting)
    return policy, critic


def compiled_methods(policy: Any, critic: nn.Module) -> Any:
    for module in (policy.actor, critic):
        module.forward = torch.compile(module.forward, backend=counting)
    return policy, critic


def compiled_function(policy: Any, critic: nn.Module) -> Any:
    policy.dist_fn = torch.compile(policy.dist_fn, backend=counting)
    return policy, critic


WAYS = [
    compiled_actor,
    compiled_critic,
    compiled_policy,
    compiled_in_place,
    compiled_submodules,
    compiled_layers,
    compiled_methods,
    compiled_function,
]


def act_and_update(algorithm: TRPO, buffer: Any) -> Any:
    with policy_within_training_step(algorithm.policy):
        algorithm.policy(Batch(obs=buffer.obs[:4], info={}))
    return update(algorithm, buffer)


def make_networks() -> tuple[Any, nn.Module]:
    torch.manual_seed(0)
    return make_policy(OBSERVATIONS, BOX, hidden_sizes=(8, 8)), make_critic(OBSERVATIONS, hidden_sizes=(8, 8))


def make_sampled_rollout(policy: Any) -> Any:
    with policy_within_training_step(policy):
        return make_rollout(policy)


@pytest.mark.parametrize("fit", [None, GaussNewtonFit()])
@pytest.mark.parametrize("compiled", WAYS)
def test_updates_are_those_of_the_networks_as_written_and_compile_nothing(compiled: Any, fit: Any):
    policy, critic = make_networks()
    buffer = make_sampled_rollout(policy)
    plain = make_trpo(policy, critic, critic_fit=fit)
    algorithm = make_trpo(*compiled(*make_networks()), critic_fit=fit)
    for i in range(3):
        torch.manual_seed(i)
        expected = act_and_update(plain, buffer)
        torch.manual_seed(i)
        stats = act_and_update(algorithm, buffer)
        assert stats.accepted == 1.0
        assert stats.kl.mean == expected.kl.mean
        assert len(graphs) == FORWARD_GRAPHS.get(compiled, 1)  # acting compiled it in the first round, and nothing since
    for network, reference in ((algorithm.policy, policy), (algorithm.critic, critic)):
        for p, q in zip(network.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0.0, atol=0.0)


FORWARD_GRAPHS: dict[Callable[..., Any], int] = {compiled_critic: 0, compiled_policy: -1}
