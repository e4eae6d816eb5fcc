"""Derivatives of policies with a memory, against networks unrolled one row at a time."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from dense import point
from rollouts import make_trpo, update
from sequenced import (
    CELLS,
    StepByStep,
    acting,
    make_sequence_critic,
    make_sequence_policy,
    problem_and_start,
    rollout_from,
)
from torch import Tensor
from torch.autograd.functional import hvp
from torch.distributions import kl_divergence
from torch.func import functional_call

from trpo_ts import KFAC
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.recurrent.sequences import Sequences
from trpo_ts.rollout import Rollout
from trpo_ts.solver.conjugate_gradient import conjugate_gradient
from trpo_ts.solver.linear_operators import damped


def rollout_and_reference(
    cell: str, discrete: bool, seed: int = 3, **settings: Any
) -> tuple[Any, Rollout, Any, Tensor]:
    """Return algorithm, rollout, theta -> distribution unrolled step by step, and theta; from a second rollout."""
    torch.manual_seed(seed)
    policy = make_sequence_policy(cell, discrete)
    algorithm = make_trpo(policy, make_sequence_critic(cell), **settings)
    actor = acting(policy, n_envs=3, mean_length=4.0)
    actor.collect(7)
    actor.collect(11)
    batch, _ = actor.buffer.sample(0)
    rollout = rollout_from(algorithm, actor.buffer)
    begins = np.roll(batch.done, 1)
    begins[::11] = True
    first = batch.policy.hidden_state.before[torch.as_tensor(begins)]
    module = StepByStep(policy)
    parameters, obs = FlatParameters(module), torch.as_tensor(rollout.obs).double()

    def reference(theta: Tensor) -> Any:
        return policy.dist_fn(functional_call(module, parameters.unflatten(theta), (obs, first, begins)))

    return algorithm, rollout, reference, parameters.read()


@pytest.mark.parametrize("micro_batch_size", [None, 9])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_and_fisher_products_are_those_of_the_unrolled_network(
    cell: str, discrete: bool, micro_batch_size: int | None
) -> None:
    algorithm, rollout, reference, theta = rollout_and_reference(cell, discrete, micro_batch_size=micro_batch_size)
    moved = theta + 0.05 * torch.randn_like(theta)
    problem, _ = problem_and_start(algorithm, rollout)
    linearisation = problem.linearise(point(moved))

    leaf = moved.clone().requires_grad_(True)
    surrogate = (torch.exp(reference(leaf).log_prob(rollout.act) - problem.logp_old) * rollout.adv).mean()
    (gradient,) = torch.autograd.grad(surrogate, leaf)
    assert gradient.norm() > 1e-3
    torch.testing.assert_close(linearisation.gradient, gradient, rtol=0, atol=1e-12)

    with torch.no_grad():
        fixed = reference(moved)

    def mean_kl_at(theta: Tensor) -> Tensor:
        return kl_divergence(fixed, reference(theta)).mean()

    v = torch.randn_like(moved)
    fisher_v = hvp(mean_kl_at, moved, v)[1]
    assert fisher_v.norm() > 1e-3
    torch.testing.assert_close(linearisation.fisher(v), fisher_v, rtol=0, atol=1e-11)


def test_derivatives_flow_through_the_whole_sequence() -> None:
    """The last row of an episode depends on the weights through its first: cutting rows apart changes the gradient."""
    algorithm, rollout, _, _ = rollout_and_reference("gru", True)
    trunk = slice(0, sum(p.numel() for p in algorithm.policy.actor.trunk.parameters()))
    alone = Sequences.of_rollout(rollout.sequences.state, torch.ones(len(rollout), dtype=torch.bool))
    whole, cut = (
        problem.linearise(start).gradient[trunk]
        for problem, start in (
            problem_and_start(algorithm, r) for r in (rollout, dataclasses.replace(rollout, sequences=alone))
        )
    )
    assert (whole - cut).norm() > 0.05 * whole.norm()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preconditioner": None, "cg_iters": 5, "cg_tolerance": 0.0},
        {"fisher_subsampling": 0.4},
        {"preconditioner": KFAC(samples=20), "ent_coef": 0.01},
    ],
    ids=str,
)
@pytest.mark.parametrize("cell", CELLS)
def test_micro_batches_change_nothing(cell: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    policy = make_sequence_policy(cell, discrete=False)
    actor = acting(policy)
    actor.collect(9)
    actor.collect(20)
    critic = make_sequence_critic(cell)
    whole = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), **settings)
    parts = make_trpo(policy, critic, micro_batch_size=6, **settings)
    for algorithm in (whole, parts):
        assert update(algorithm, actor.buffer).step_size.mean > 0
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_kfacs_factors_of_the_cell_serve_the_solve_better_than_a_diagonal(cell: str) -> None:
    """The share of the optimum g^T x / sqrt(x^T C x) that two products reach, on rollouts of noise."""
    shares = []
    for seed in range(5):
        algorithm, rollout, _, _ = rollout_and_reference(cell, False, seed=seed)
        problem, start = problem_and_start(algorithm, rollout)
        linearisation, policy_function = problem.linearise(start), problem.policy_function
        operator = damped(linearisation.fisher, 0.01)
        forward_pass = policy_function.forward_pass(linearisation.theta, slice(0, problem.count), record_layers=True)
        outside = [call for call in forward_pass.layer_calls if ".cell." not in call.name]
        diagonal = kronecker_factors(
            dataclasses.replace(forward_pass, layer_calls=outside), fisher_metric(forward_pass.value)
        )
        factors = KFAC()._factors(policy_function, linearisation.theta, fisher_metric, linearisation.forward_pass)
        names = [name for group in factors.groups for name in group.names]
        assert sum(".cell." in name for name in names) == 2
        preconditioners = [
            KFAC().fit(
                policy_function,
                linearisation.theta,
                fisher_metric,
                damping=0.01,
                forward_pass=linearisation.forward_pass,
            ),
            KFAC()._preconditioner(diagonal, policy_function, 0.01),
        ]
        shares.append(
            [share(operator, linearisation.gradient, preconditioner) for preconditioner in (*preconditioners, None)]
        )
    kronecker, diagonal_only, none = np.mean(shares, axis=0)
    assert kronecker > diagonal_only > none


def share(operator: Any, gradient: Tensor, preconditioner: Any) -> float:
    x = conjugate_gradient(operator, gradient, max_iterations=2, tolerance=0.0, preconditioner=preconditioner).x
    return float(gradient.dot(x) / x.dot(operator(x)).sqrt())
