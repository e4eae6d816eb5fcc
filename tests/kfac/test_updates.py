"""K-FAC in an update: when it is used, which passes it takes, what it may and may not change."""

from __future__ import annotations

import copy

import pytest
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, update
from torch import nn
from torch.distributions import Independent, Normal

from trpo_ts import KFAC
from trpo_ts.critics import GaussNewtonFit


def test_a_network_without_layers_is_solved_without_a_preconditioner():
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(OBS_DIM, 2) * 0.1)

        def forward(self, obs, state=None, info=None):
            mean = torch.as_tensor(obs, dtype=torch.float32) @ self.weight
            return (mean, torch.ones_like(mean)), state

    torch.manual_seed(9)
    policy = make_actor_policy(actor=Bare())
    assert update(make_trpo(policy), make_rollout(policy)).accepted == 1.0


def test_a_distribution_without_a_closed_form_is_solved_without_a_preconditioner():
    class Shifted(Normal):
        """A subclass: nothing is assumed of its density."""

    torch.distributions.kl.register_kl(Shifted, Shifted)(lambda p, q: torch.distributions.kl._kl_normal_normal(p, q))
    torch.manual_seed(10)
    policy = make_actor_policy(dtype=torch.float64)
    critic = Mlp((OBS_DIM, 4, 1)).double()
    buffer = make_rollout(policy)
    results = []
    for dist_fn in (policy.dist_fn, lambda loc_scale: Independent(Shifted(*loc_scale), 1)):
        algorithm = make_trpo(
            copy.deepcopy(policy), copy.deepcopy(critic), preconditioner=None, cg_iters=30, cg_tolerance=0.01
        )
        algorithm.policy.dist_fn = dist_fn
        algorithm.preconditioner = KFAC() if dist_fn is not policy.dist_fn else None
        assert update(algorithm, buffer).accepted == 1.0
        results.append(parameters_of(algorithm))
    for known, unknown in zip(*results, strict=True):  # Fisher products here, products with the KL Hessian there
        torch.testing.assert_close(unknown, known, rtol=1e-9, atol=1e-10)


def test_update_is_better_with_the_preconditioner_for_the_same_products():
    torch.manual_seed(11)
    policy = make_actor_policy(hidden=(32, 32))
    critic = Mlp((OBS_DIM, 8, 1))
    buffer = make_rollout(policy, 8, 64)
    results = {}
    for name, kwargs in {
        "plain": {"preconditioner": None, "cg_iters": 2},
        "kfac": {"cg_iters": 2},
    }.items():
        algorithm = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), cg_damping=0.01, cg_tolerance=0.0, **kwargs)
        results[name] = update(algorithm, buffer)
    assert results["kfac"].cg_iterations == results["plain"].cg_iterations == 2
    assert results["kfac"].expected_improvement > results["plain"].expected_improvement


def test_micro_batches_and_subsampling_take_the_same_model():
    torch.manual_seed(12)
    policy = make_actor_policy(dtype=torch.float64, hidden=(16,))
    critic = Mlp((OBS_DIM, 4, 1)).double()
    buffer = make_rollout(policy, 8, 100)
    results = []
    for size in (None, 33):
        algorithm = make_trpo(
            copy.deepcopy(policy), copy.deepcopy(critic), micro_batch_size=size, preconditioner=KFAC(samples=50)
        )
        update(algorithm, buffer)
        results.append(parameters_of(algorithm))
    for full, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, full, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("critic_fit", [None, GaussNewtonFit()], ids=repr)
def test_no_pass_of_an_update_is_larger_than_a_micro_batch(critic_fit):
    seen: list[int] = []
    policy, critic = make_actor_policy(), Mlp((OBS_DIM, 8, 1))
    buffer = make_rollout(policy, n_envs=4, length=150)
    for network in (policy.actor, critic):
        network.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    update(make_trpo(policy, critic, micro_batch_size=16, max_batchsize=16, critic_fit=critic_fit), buffer)
    assert max(seen) == 16


@pytest.mark.parametrize(("length", "own_passes"), [(10, 0), (11, 1)])
def test_the_factors_have_a_pass_of_their_own_only_in_large_rollouts(length: int, own_passes: int):
    seen: list[int] = []
    policy = make_actor_policy()
    buffer = make_rollout(policy, n_envs=4, length=length)
    policy.actor.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    update(make_trpo(policy, max_kl=1e-4, preconditioner=KFAC(samples=10)), buffer)
    assert seen.count(10) == own_passes
    assert seen.count(4 * length) == 2  # one with the graph, and the accepted candidate


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
