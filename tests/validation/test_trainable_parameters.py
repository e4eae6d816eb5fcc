"""The parameters that an update may move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bandit import Actor, Critic, assert_same, everything, make_algorithm, observations, rollout
from rollouts import make_actor_policy, make_rollout, make_trpo, update
from torch import nn

from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit
from trpo_ts.validation.trainable_parameters import check_trainable


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_fix(dtype):
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.to(dtype)
    with pytest.raises(ValueError, match=f"must be torch.float32 or torch.float64, got {dtype}.*\\.float\\(\\)"):
        update(make_trpo(policy), buffer)


def parameter(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.zeros(2, dtype=dtype))


def test_dtype_and_device_are_those_of_the_parameters_that_may_move():
    frozen = nn.Parameter(torch.zeros(2, dtype=torch.float16), requires_grad=False)
    assert check_trainable([frozen, parameter(torch.float64)]) == (torch.float64, torch.device("cpu"))


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ([], "must each have at least one trainable parameter"),
        ([nn.Parameter(torch.zeros(2), requires_grad=False)], "unfreeze those that shall learn"),
        (
            [parameter(), parameter(torch.float64)],
            r"one dtype and one device, got \['torch.float32 on cpu', 'torch.float64 on cpu'\]",
        ),
        ([nn.Parameter(torch.zeros(1).expand(3))], r"must each have memory of their own, got an expanded one"),
    ],
    ids=["none", "all frozen", "two dtypes", "expanded"],
)
def test_parameters_that_cannot_be_moved_together_are_refused(parameters: list[nn.Parameter], match: str):
    with pytest.raises(ValueError, match=match):
        check_trainable(parameters)


def test_networks_made_in_inference_mode_are_refused_when_the_algorithm_is_built():
    with torch.inference_mode():
        actor, critic = Actor(), Critic()
    with pytest.raises(ValueError, match=r"policy must have parameters that can be trained, got actor\.log_std"):
        make_algorithm(actor)
    with pytest.raises(ValueError, match=r"critic must have parameters that can be trained, got hidden\.weight"):
        make_algorithm(critic=critic)


def test_parameters_that_get_their_shape_later_are_no_error():
    layer = nn.LazyLinear(1)
    make_algorithm(critic=nn.Sequential(layer))
    assert nn.parameter.is_lazy(layer.weight)


def hook_on(parameter: nn.Parameter, kind: str) -> Any:
    register = {"gradient": "register_hook", "accumulated": "register_post_accumulate_grad_hook"}[kind]
    return getattr(parameter, register)(lambda value: None)


@pytest.mark.parametrize("kind", ["gradient", "accumulated"])
@pytest.mark.parametrize("late", [True, False])
def test_hooks_on_the_policys_parameters_are_refused_by_name(kind: str, late: bool):
    """The update would not call them."""
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    if late:
        update(algorithm, buffer)
    handle = hook_on(algorithm.policy.actor.net[0].weight, kind)
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"must have no hooks .* got some on policy\.actor\.net\.0\.weight: "):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)
    handle.remove()
    assert update(algorithm, buffer) is not None


def test_hooks_on_what_is_frozen_are_none_of_an_updates_business():
    algorithm = make_algorithm()
    hook_on(algorithm.policy.actor.net[0].weight, "gradient")
    algorithm.policy.actor.net[0].weight.requires_grad_(False)
    assert update(algorithm, rollout(algorithm.policy, observations())).accepted


def test_hooks_on_the_critics_parameters_are_called_by_fits_by_gradients_and_refused_by_others():
    critic = Critic()
    algorithm = make_algorithm(critic=critic)
    critic.hidden.weight.register_hook(torch.zeros_like)
    before = critic.hidden.weight.clone()
    buffer = rollout(algorithm.policy, observations())
    for fit in (None, MinibatchFit(1, 64), LBFGSFit(2)):
        algorithm.critic_fit = fit
        last = critic.last.weight.clone()
        assert update(algorithm, buffer) is not None
        assert torch.equal(critic.hidden.weight, before)
        assert not torch.equal(critic.last.weight, last)
    algorithm.critic_fit = GaussNewtonFit()
    state = everything(algorithm)
    with pytest.raises(ValueError, match=r"must have no hooks .* got some on hidden\.weight: "):
        update(algorithm, buffer)
    assert_same(everything(algorithm), state)
