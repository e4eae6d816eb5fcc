"""A policy must be a differentiable function of its parameters and observations that returns a distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bodies import Body, chain
from once_differentiable import OnceDifferentiable
from rollouts import Actor, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from torch import Tensor, nn


def refused(change: Callable[[Any], object], match: str) -> None:
    """Check that an update refuses a policy that was changed after its rollout, and changes nothing."""
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    change(policy)
    algorithm = make_trpo(policy, return_scaling=True)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match=match):
        update(algorithm, buffer)
    assert same(before, algorithm)
    assert algorithm.ret_rms.count == 0


def with_body(function: Callable[[Any, Tensor], Tensor], **modules: Any) -> Callable[[Any], None]:
    def change(policy: Any) -> None:
        policy.actor = Actor(Body(function, net=chain(), **modules), -0.5)

    return change


def test_what_is_no_distribution_is_named():
    def returning_the_mean(policy: Any) -> None:
        policy.dist_fn = lambda loc_scale: loc_scale[0]

    refused(returning_the_mean, r"policy must return a torch\.distributions\.Distribution, got Tensor")


def test_a_policy_that_draws_noise_in_evaluation_mode_is_refused():
    noisy = with_body(lambda s, x: s.net(x) + torch.randn(2))
    refused(noisy, "got two different results for the same observations: draw no random numbers")


def test_a_policy_that_counts_its_calls_is_refused():
    calls = [0.0]

    def counted(s: Any, x: Tensor) -> Tensor:
        calls[0] += 1.0
        return s.net(x) + calls[0]

    refused(with_body(counted), "and keep no state there")


def test_a_policy_with_a_cached_copy_of_a_parameter_is_refused():
    def cached(policy: Any) -> None:
        with_body(lambda s, x: s.net(x) * (2.0 if s.net[0].weight is s.own[0] else 1.0))(policy)
        policy.actor.body.own = [policy.actor.body.net[0].weight]

    refused(cached, "got another result when its parameters were replaced by tensors of equal values")


class NotDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("only .backward() is supported")


def test_a_policy_that_cannot_be_differentiated_is_refused_with_the_reason():
    function = with_body(lambda s, x: NotDifferentiable.apply(s.net(x)))
    refused(function, r"must be differentiable by torch\.autograd\.grad, got: only \.backward\(\) is supported")


def test_one_that_can_be_differentiated_once_is_no_error():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    with_body(lambda s, x: OnceDifferentiable.apply(s.net(x)))(policy)
    assert update(make_trpo(policy), buffer).accepted == 1.0


@pytest.mark.parametrize("draw", [lambda: torch.randn(3), lambda: np.random.random(3)], ids=["torch", "numpy"])  # noqa: NPY002
def test_random_numbers_without_an_effect_leave_the_generators_where_they_were(draw: Callable[[], Any]):
    policy = make_actor_policy()
    buffer = make_rollout(policy)

    def drawing(s: Any, x: Tensor) -> Tensor:
        draw()
        return s.net(x)

    with_body(drawing)(policy)
    algorithm = make_trpo(policy)
    states = torch.get_rng_state(), np.random.get_state()[1:3]  # noqa: NPY002
    assert update(algorithm, buffer).accepted == 1.0
    assert torch.equal(states[0], torch.get_rng_state())
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(states[1][0], after[1])
    assert states[1][1] == after[2]


@pytest.mark.parametrize("size", [1, 3, 16])
def test_the_checks_take_no_more_rows_than_a_micro_batch(size: int):
    policy = make_actor_policy()
    buffer = make_rollout(policy, n_envs=4, length=40)
    policy.actor = Actor(Body(lambda s, x: s.net(x), net=nn.Sequential(chain())), -0.5)
    seen: list[int] = []
    policy.actor.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    update(make_trpo(policy, micro_batch_size=size), buffer)
    assert max(seen) == size
