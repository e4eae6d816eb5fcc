"""Every way to fit a critic: one interface, and safety."""

from __future__ import annotations

import copy

import pytest
import torch
from critic_tasks import error, task_of
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from torch import nn

from trpo_ts import KFAC
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit, OptimizerFit

FITS = [
    OptimizerFit(20),
    OptimizerFit(2, batch_size=16),
    MinibatchFit(3, 16),
    GaussNewtonFit(),
    GaussNewtonFit(preconditioner=None, cg_iters=4),  # with eight, rounding grows to 1e-8 however rows are cut
    GaussNewtonFit(steps=3, preconditioner=KFAC()),
    LBFGSFit(5),
]


@pytest.mark.parametrize("fit", FITS, ids=repr)
def test_every_fit_lowers_the_error_and_reports_it(fit):
    torch.manual_seed(0)
    task = task_of(Mlp((OBS_DIM, 16, 1)))
    before = error(task)
    losses = fit.fit(task)
    assert error(task) < before
    assert losses
    assert all(0 < loss <= before * 2 for loss in losses)


@pytest.mark.parametrize("fit", FITS[:1] + FITS[3:], ids=repr)
@pytest.mark.parametrize("micro_batch_size", [7, 120])
def test_micro_batches_change_nothing(fit, micro_batch_size):
    torch.manual_seed(4)
    critic = Mlp((OBS_DIM, 8, 1)).double()
    results = []
    for size in (None, micro_batch_size):
        task = task_of(copy.deepcopy(critic), micro_batch_size=size)
        fit.fit(task)
        results.append(parameters_of(task.critic))
    for full, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, full, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("fit", FITS, ids=repr)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_targets_that_are_not_finite_leave_the_critic_as_it_was(fit, value):
    torch.manual_seed(5)
    task = task_of(Mlp((OBS_DIM, 8, 1)))
    task.returns[:] = value
    before = parameters_of(task.critic)
    losses = fit.fit(task)
    assert same(before, task.critic)
    assert all(loss <= torch.finfo(torch.float32).max for loss in losses)


@pytest.mark.parametrize("fit", FITS, ids=repr)
def test_frozen_critic_is_measured_and_left_alone(fit):
    task = task_of(Mlp((OBS_DIM, 8, 1)))
    task.critic.requires_grad_(False)
    before = parameters_of(task.critic)
    assert fit.fit(task)[0] > 0
    assert same(before, task.critic)


@pytest.mark.parametrize("fit", FITS, ids=repr)
def test_layers_that_are_frozen_after_a_fit_stay_as_they_are(fit):
    task = task_of(Mlp((OBS_DIM, 8, 1)))
    fit.fit(task)
    first = task.critic.layers[0].requires_grad_(False)
    before, head = parameters_of(first), parameters_of(task.critic.layers[2])
    fit.fit(task)
    assert same(before, first)
    assert not same(head, task.critic.layers[2])


@pytest.mark.parametrize("fit", FITS, ids=repr)
def test_shared_layers_are_left_alone(fit):
    torch.manual_seed(6)
    policy = make_actor_policy()
    critic = nn.Sequential(policy.actor.body, nn.Linear(2, 1))
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy, critic, critic_fit=fit, max_kl=1e-9)
    head = parameters_of(critic[1])
    with torch.no_grad():
        before = parameters_of(policy)
    stats = update(algorithm, buffer)
    moved = sum(float((a - b).abs().sum()) for a, b in zip(before, policy.parameters(), strict=True))
    assert moved < 0.1  # by the policy step, within a tiny trust region
    assert stats.kl.mean <= 1e-9
    assert not same(head, critic[1])
    assert all(p.grad is None for p in policy.parameters())


def test_users_own_fit_works():
    class Halve:
        def fit(self, task):
            with torch.no_grad():
                for p in task.own:
                    p.mul_(0.5)
            return [1.25]

    policy = make_actor_policy()
    algorithm = make_trpo(policy, critic_fit=Halve())
    before = [0.5 * p for p in parameters_of(algorithm.critic)]
    stats = update(algorithm, make_rollout(policy))
    assert same(before, algorithm.critic)
    assert stats.vf_loss.mean == 1.25


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        (OptimizerFit, {"iterations": -1}),
        (OptimizerFit, {"batch_size": 0}),
        (MinibatchFit, {"epochs": 0}),
        (MinibatchFit, {"batch_size": 1.5}),
        (GaussNewtonFit, {"steps": 0}),
        (GaussNewtonFit, {"cg_iters": 0}),
        (GaussNewtonFit, {"damping": -0.1}),
        (GaussNewtonFit, {"max_change": 0.0}),
        (GaussNewtonFit, {"max_halvings": -1}),
        (GaussNewtonFit, {"preconditioner": "kfac"}),
        (LBFGSFit, {"iterations": 0}),
        (LBFGSFit, {"history": 0}),
    ],
)
def test_bad_settings_are_refused_by_name(kind, kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f"^{name} must be"):
        kind(**kwargs)
