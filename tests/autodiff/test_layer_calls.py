"""Layers in every use that a network may make of them: which calls are recorded, and that updates learn with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bodies import Body, chain
from rollouts import (
    ACT_DIM,
    OBS_DIM,
    Actor,
    Mlp,
    make_actor_policy,
    make_rollout,
    make_trpo,
    mean_kl,
    parameters_of,
    same,
    update,
)
from torch import Tensor, nn

from trpo_ts.critics import GaussNewtonFit


class Flattening(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


class InTuple(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), None


class Padding(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (2, 0)))


def without_effect(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    return layer


def routed(body: Any, x: Tensor) -> Tensor:
    rare = x[:, 0] > 100.0  # never
    out = x.new_zeros(len(x), ACT_DIM)
    out[~rare], out[rare] = body.common(x[~rare]), body.rare(x[rare])
    return out


BODIES: dict[str, Callable[[], Body]] = {
    "an expert without rows": lambda: Body(routed, common=nn.Linear(OBS_DIM, 2), rare=nn.Linear(OBS_DIM, 2)),
    "a layer on one vector": lambda: Body(
        lambda s, x: s.net(x) + s.head(s.code)[:ACT_DIM],
        net=chain(),
        head=nn.Linear(4, 64),  # as many outputs as the rollout has rows
        code=nn.Parameter(torch.ones(4)),
    ),
    "a layer without inputs": lambda: Body(
        lambda s, x: s.net(x) + s.none(x[:, :0]), net=chain(), none=nn.Linear(0, ACT_DIM, bias=False)
    ),
    "a layer that flattens": lambda: Body(
        lambda s, x: s.net(torch.stack([x, x], 1)), net=Flattening(2 * OBS_DIM, ACT_DIM)
    ),
    "a layer that returns a tuple": lambda: Body(lambda s, x: s.net(x)[0], net=InTuple(OBS_DIM, ACT_DIM)),
    "a convolution that pads": lambda: Body(
        lambda s, x: s.head(s.conv(x.view(-1, 1, 1, OBS_DIM)).flatten(1)),
        conv=Padding(1, 4, (1, 3)),
        head=nn.Linear(4 * OBS_DIM, ACT_DIM),
    ),
    "a convolution of one image": lambda: Body(
        lambda s, x: s.net(x) + s.conv(s.image).mean(),
        net=chain(),
        conv=nn.Conv2d(1, 1, 2),
        image=nn.Parameter(torch.ones(1, 4, 4)),
    ),
    "a keyword argument": lambda: Body(lambda s, x: s.net(input=x), net=chain()),
    "a last layer of zeros": lambda: Body(
        lambda s, x: s.head(s.net(x)), net=chain(), head=without_effect(nn.Linear(ACT_DIM, ACT_DIM))
    ),
    "an output that nobody uses": lambda: Body(
        lambda s, x: (s.net(x), s.unused(x))[0], net=chain(), unused=nn.Linear(OBS_DIM, 4)
    ),
}


@pytest.mark.parametrize("damping", [0.1, 0.0])
@pytest.mark.parametrize("name", BODIES)
def test_the_policy_learns_with_the_default_solver(name: str, damping: float):
    torch.manual_seed(0)
    policy = make_actor_policy(actor=Actor(BODIES[name](), -0.5))
    before = copy.deepcopy(policy)
    buffer = make_rollout(policy)
    stats = update(make_trpo(policy, cg_damping=damping), buffer)
    assert stats.accepted == 1.0
    assert 0.0 < stats.kl.mean <= 0.01
    assert mean_kl(before, policy, buffer) == pytest.approx(stats.kl.mean, rel=1e-3)


def test_a_critic_whose_expert_has_no_rows_learns():
    torch.manual_seed(0)
    critic = Body(
        lambda s, x: routed(s, x).sum(-1), common=nn.Linear(OBS_DIM, ACT_DIM), rare=nn.Linear(OBS_DIM, ACT_DIM)
    )
    policy = make_actor_policy()
    before = parameters_of(critic.common)
    update(make_trpo(policy, critic, critic_fit=GaussNewtonFit()), make_rollout(policy))
    assert not same(before, critic.common)


class Borrowing(nn.Module):
    """Takes the features of another network's layers, without being their owner."""

    def __init__(self, layers: nn.Module, out: int, detach: bool) -> None:
        super().__init__()
        self.features = lambda x: layers(x).detach() if detach else layers(x)
        self.head = nn.Linear(8, out)

    def forward(self, obs: Any) -> Tensor:
        return self.head(self.features(torch.as_tensor(obs, dtype=torch.float32)))


@pytest.mark.parametrize("detach", [True, False])
def test_a_policy_of_the_critics_features_is_refused_where_their_fit_would_move_it(detach):
    critic = Mlp((OBS_DIM, 8, 8, 1))
    policy = make_actor_policy(actor=Actor(Borrowing(critic.layers[:3], ACT_DIM, detach), -0.5))
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy, critic)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match="critic's fit must not move the policy"):
        update(algorithm, buffer)
    assert same(before, algorithm)
    algorithm.optim_critic_iters = 0
    assert update(algorithm, buffer).accepted == 1.0


@pytest.mark.parametrize("detach", [True, False])
def test_the_policys_features_are_constants_of_a_critic_that_takes_them(detach):
    body = Mlp((OBS_DIM, 8, 8, ACT_DIM))
    policy = make_actor_policy(actor=Actor(body, -0.5))
    critic = Borrowing(body.layers[:3], 1, detach)
    before = parameters_of(critic)
    stats = update(make_trpo(policy, critic, critic_fit=GaussNewtonFit()), make_rollout(policy))
    assert stats.accepted == 1.0
    assert not same(before, critic)
