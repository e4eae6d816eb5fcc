"""Unusual and legitimate: networks, distributions and numbers on which an update has to learn, or to say why not."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rollouts import (
    ACT_DIM,
    BOX,
    OBS_DIM,
    OBSERVATIONS,
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
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    CatTransform,
    Distribution,
    Independent,
    IndependentTransform,
    LowRankMultivariateNormal,
    Normal,
    TanhTransform,
    TransformedDistribution,
    Weibull,
)

from trpo_ts import KFAC
from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.critics import GaussNewtonFit
from trpo_ts.policies import make_policy


class Body(nn.Module):
    """A network's body from submodules and a function of them and the observations."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, obs: Any) -> Tensor:
        return self.function(self, torch.as_tensor(obs, dtype=next(self.parameters()).dtype))


class Flattening(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


class InTuple(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), None


class Padding(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (2, 0)))


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, ACT_DIM))


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


@pytest.mark.parametrize("rows", [64, 72])
def test_the_step_does_not_depend_on_micro_batches_where_the_model_takes_a_sample(rows: int):
    torch.manual_seed(0)
    policy = make_actor_policy(hidden=(16, 16), dtype=torch.float64)
    buffer = make_rollout(policy, n_envs=8, length=rows // 8)
    critic = Mlp((OBS_DIM, 8, 1)).double()
    fit = GaussNewtonFit(preconditioner=KFAC(inner_iterations=1, samples=20))
    found = []
    for size in (None, 10):
        actor, values = copy.deepcopy(policy), copy.deepcopy(critic)
        update(make_trpo(actor, values, micro_batch_size=size, preconditioner=KFAC(samples=20), critic_fit=fit), buffer)
        found.append(parameters_of(actor) + parameters_of(values))
    for whole, in_parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-9, atol=1e-12)


class LowRankActor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Mlp((OBS_DIM, 8, 3 * ACT_DIM))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        return self.body(obs), state


def low_rank(outputs: Tensor) -> Distribution:
    mean, factor, diagonal = outputs.chunk(3, dim=-1)
    return LowRankMultivariateNormal(mean, factor.unsqueeze(-1), F.softplus(diagonal) + 0.1)


def test_a_family_that_computes_in_the_networks_precision():
    torch.manual_seed(0)
    policy = ProbabilisticActorPolicy(
        actor=LowRankActor(),
        dist_fn=low_rank,
        action_space=BOX,
        observation_space=OBSERVATIONS,
        action_scaling=False,
        action_bound_method=None,
    )
    assert update(make_trpo(policy), make_rollout(policy)).accepted == 1.0


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_an_action_of_no_density_leaves_finite_stats(edge: float):
    policy = make_policy(OBSERVATIONS, BOX, distribution="beta")
    buffer = make_rollout(policy)
    buffer._meta.act[3] = edge
    before = parameters_of(policy)
    stats = update(make_trpo(policy), buffer)
    assert stats.accepted == 0.0
    assert same(before, policy)
    numbers = stats.get_loss_stats_dict()
    assert numbers["kl"] == 0.0
    assert all(math.isfinite(value) for value in numbers.values())


@pytest.mark.parametrize("size", [1e12, 1.7e18, 1e30])
@pytest.mark.parametrize("fit", [None, GaussNewtonFit()])
def test_a_huge_observation_does_not_end_the_update(size: float, fit: Any):
    torch.manual_seed(0)
    policy = make_actor_policy(hidden=(64, 64))
    buffer = make_rollout(policy, n_envs=8, length=32)
    for part in buffer.buffers:
        part._meta.obs[:, 2] = size
        part._meta.obs_next[:, 2] = size
    stats = update(make_trpo(policy, critic_fit=fit), buffer)
    assert stats.kl.mean <= 0.01
    assert all(torch.isfinite(p).all() for p in policy.parameters())


@pytest.mark.parametrize("scale", [1e200, 1e300])
def test_huge_rewards_of_float64_do_not_end_the_update(scale: float):
    policy = make_actor_policy(dtype=torch.float64)
    stats = update(make_trpo(policy), make_rollout(policy, reward_scale=scale))
    assert np.isfinite(stats.explained_variance)


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


def test_so_is_one_beside_frozen_parameters():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.actor = Actor(Held(), -0.5)
    policy.actor.body.net.requires_grad_(False)
    with pytest.raises(ValueError, match="must reach each parameter as an attribute of its module"):
        update(make_trpo(policy), buffer)


def test_so_is_one_of_a_critic_that_a_fit_cannot_move_before_anything_changes():
    policy, critic = (
        make_actor_policy(),
        Body(lambda s, x: F.linear(s.net(x), s.held[0]), net=chain(), head=nn.Linear(2, 1)),
    )
    critic.held = [critic.head.weight]
    algorithm = make_trpo(policy, critic, critic_fit=GaussNewtonFit(), return_scaling=True)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match=r"critic must reach each parameter .* got head\.weight used"):
        update(algorithm, make_rollout(policy))
    assert same(before, algorithm)
    assert algorithm.ret_rms.count == 0
    algorithm.critic_fit = None  # an optimiser moves it all the same
    update(algorithm, make_rollout(policy))
    assert not torch.equal(before[-2], parameters_of(algorithm)[-2])


class Borrowing(nn.Module):
    """Takes the features of another network's layers, without being their owner."""

    def __init__(self, layers: nn.Module, out: int, detach: bool) -> None:
        super().__init__()
        self.features = lambda x: layers(x).detach() if detach else layers(x)
        self.head = nn.Linear(8, out)

    def forward(self, obs: Any) -> Tensor:
        return self.head(self.features(torch.as_tensor(obs, dtype=torch.float32)))


@pytest.mark.parametrize("detach", [True, False])
def test_features_of_the_others_network_are_constants(detach):
    critic = Mlp((OBS_DIM, 8, 8, 1))
    policy = make_actor_policy(actor=Actor(Borrowing(critic.layers[:3], ACT_DIM, detach), -0.5))
    stats = update(make_trpo(policy, critic), make_rollout(policy))
    assert stats.accepted == 1.0

    body = Mlp((OBS_DIM, 8, 8, ACT_DIM))
    policy = make_actor_policy(actor=Actor(body, -0.5))
    critic = Borrowing(body.layers[:3], 1, detach)
    before = parameters_of(critic)
    stats = update(make_trpo(policy, critic, critic_fit=GaussNewtonFit()), make_rollout(policy))
    assert stats.accepted == 1.0
    assert not same(before, critic)


def test_a_chain_may_have_no_inputs():
    body = Body(lambda s, x: s.net(x[:, :0]), net=nn.Sequential(nn.Linear(0, 4), nn.Tanh(), nn.Linear(4, ACT_DIM)))
    policy = make_actor_policy(actor=Actor(body, -0.5))
    assert update(make_trpo(policy), make_rollout(policy)).accepted == 1.0


def test_a_chain_whose_output_is_changed_in_place_is_an_error_as_without_fusion():
    block, last = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh()), nn.Linear(8, 1)
    with fused_chains(block):
        h = block(torch.randn(5, OBS_DIM))
        h *= 0.5
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            last(h).sum().backward()


def test_a_chain_that_ends_in_a_linear_layer_may_have_its_output_changed_in_place():
    x, block = torch.randn(5, OBS_DIM), nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 2))
    wanted = torch.autograd.grad((0.5 * block(x)).square().sum(), list(block.parameters()))
    with fused_chains(block):
        h = block(x)
        h *= 0.5
        for got, expected in zip(torch.autograd.grad(h.square().sum(), list(block.parameters())), wanted, strict=True):
            torch.testing.assert_close(got, expected)


def test_observations_in_tiny_units_keep_the_trust_region():
    for seed in range(12):
        torch.manual_seed(seed)
        policy = make_actor_policy(discrete=True, hidden=(16, 16))
        layers = policy.actor.body.layers
        with torch.no_grad():
            for i in (0, 2, 4):
                layers[i].bias.zero_()
            layers[4].weight.div_(1e-7)
        before, buffer = copy.deepcopy(policy), make_rollout(policy, obs_scale=1e-7)
        stats = update(make_trpo(policy, max_kl=0.05), buffer)
        assert stats.kl.mean <= 0.05
        assert mean_kl(before, policy, buffer) == pytest.approx(stats.kl.mean, rel=1e-3, abs=1e-6)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_mend(dtype):
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.to(dtype)
    with pytest.raises(ValueError, match=f"must be torch.float32 or torch.float64, got {dtype}.*\\.float\\(\\)"):
        update(make_trpo(policy), buffer)


def test_returns_beyond_the_range_of_their_statistics_leave_these_as_they_were():
    policy = make_actor_policy()
    algorithm = make_trpo(policy, return_scaling=True)
    update(algorithm, make_rollout(policy))
    before = algorithm.ret_rms.mean, algorithm.ret_rms.var, algorithm.ret_rms.count
    update(algorithm, make_rollout(policy, reward_scale=1e160))
    assert (algorithm.ret_rms.mean, algorithm.ret_rms.var, algorithm.ret_rms.count) == before
    assert update(algorithm, make_rollout(policy)).accepted == 1.0


def test_a_chain_whose_input_is_changed_in_place_is_an_error_as_without_fusion():
    first, block, last = nn.Linear(OBS_DIM, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 1)
    with fused_chains(block):
        h = first(torch.randn(5, OBS_DIM)) + 0.0
        h += block(h)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            last(h).sum().backward()
