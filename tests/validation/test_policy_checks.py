"""Policies that an update cannot use are refused before anything changes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from bodies import Body, chain
from rollouts import Actor, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    CatTransform,
    Distribution,
    Independent,
    IndependentTransform,
    MixtureSameFamily,
    Normal,
    TanhTransform,
    TransformedDistribution,
    Weibull,
)


class Held(Body):
    """Holds one of its parameters in a list, too."""

    def __init__(self) -> None:
        super().__init__(lambda s, x: s.net(x) + s.head(x) + F.linear(x, s.held[0]), net=chain(), head=nn.Linear(3, 2))
        self.held = [self.head.weight]


def test_a_parameter_that_is_reached_in_two_ways_is_refused():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.actor = Actor(Held(), -0.5)
    before = parameters_of(policy)
    with pytest.raises(ValueError, match=r"as an attribute of its module, got policy\.actor\.body\.head\.weight used"):
        update(make_trpo(policy), buffer)
    assert same(before, policy)


def test_a_parameter_that_is_reached_in_two_ways_beside_frozen_ones_is_refused():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.actor = Actor(Held(), -0.5)
    policy.actor.body.net.requires_grad_(False)
    with pytest.raises(ValueError, match="must reach each parameter as an attribute of its module"):
        update(make_trpo(policy), buffer)


@pytest.mark.parametrize(
    "transforms",
    [
        lambda loc, scale: [AffineTransform(loc, scale, event_dim=1)],
        lambda loc, scale: [
            IndependentTransform(CatTransform([TanhTransform(), AffineTransform(0.0, 2.0)], dim=-1), 1)
        ],
    ],
)
def test_transforms_without_a_divergence_are_refused_before_anything_changes(transforms):
    def dist_fn(loc_scale: tuple[Tensor, Tensor]) -> Distribution:
        base = Independent(Normal(torch.zeros_like(loc_scale[0]), torch.ones_like(loc_scale[1])), 1)
        return TransformedDistribution(base, transforms(*loc_scale))

    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.dist_fn = dist_fn
    algorithm = make_trpo(policy, return_scaling=True)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match="its transforms must not depend on the network, and be made once"):
        update(algorithm, buffer)
    assert same(before, algorithm)
    assert algorithm.ret_rms.count == 0


def test_a_divergence_that_is_missing_is_named_after_the_distribution_of_a_component():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.dist_fn = lambda loc_scale: Independent(Weibull(loc_scale[0].exp(), loc_scale[1]), 1)
    with pytest.raises(ValueError, match=r"got a Weibull without; .* or register .*register_kl\(Weibull, Weibull\)"):
        update(make_trpo(policy), buffer)


def test_distribution_per_component_is_refused_with_the_fix():
    template = make_actor_policy()
    policy = ProbabilisticActorPolicy(
        actor=template.actor,
        dist_fn=lambda loc_scale: Normal(*loc_scale),
        action_space=template.action_space,
        action_scaling=False,
    )
    with pytest.raises(ValueError, match=r"wrap it: torch.distributions.Independent\(distribution, 1\)"):
        update(make_trpo(policy), make_rollout(policy))


def test_distribution_without_a_divergence_is_refused_before_anything_changes():
    template = make_actor_policy()
    policy = ProbabilisticActorPolicy(
        actor=template.actor,
        dist_fn=lambda loc_scale: MixtureSameFamily(
            Categorical(torch.ones(len(loc_scale[0]), 1)), Independent(Normal(*(x.unsqueeze(1) for x in loc_scale)), 1)
        ),
        action_space=template.action_space,
        action_scaling=False,
    )
    algorithm = make_trpo(policy, return_scaling=True)
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(ValueError, match=r"got a MixtureSameFamily without; register one with .*register_kl"):
        update(algorithm, make_rollout(template))
    torch.testing.assert_close(algorithm.state_dict(), before, rtol=0, atol=0)


def test_actions_of_another_shape_are_refused():
    policy = make_actor_policy()
    buffer = make_rollout(make_actor_policy(discrete=True))
    with pytest.raises(ValueError, match=r"actions of shape \(2,\).*actions of shape \(\)"):
        update(make_trpo(policy), buffer)
