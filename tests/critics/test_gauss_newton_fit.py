"""The Gauss-Newton fit: exactness on linear critics, its trust region, what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from bodies import Body, chain
from critic_tasks import error, task_of
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from torch import nn

from trpo_ts.critics import GaussNewtonFit


def test_gauss_newton_solves_a_linear_critic_in_one_step():
    torch.manual_seed(1)
    critic = nn.Linear(OBS_DIM, 1).double()
    task = task_of(critic)
    fit = GaussNewtonFit(cg_iters=20, damping=0.0, max_change=10.0)
    (loss,) = fit.fit(task)
    design = torch.cat([task.obs, torch.ones(len(task.obs), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, task.returns.unsqueeze(1)).solution.flatten()
    torch.testing.assert_close(torch.cat([critic.weight.flatten(), critic.bias]), solution, rtol=1e-6, atol=1e-8)
    assert loss == pytest.approx(float((design @ solution - task.returns).square().mean()))


def test_gauss_newton_keeps_the_trust_region_of_the_values():
    torch.manual_seed(2)
    critic = nn.Linear(OBS_DIM, 1).double()
    task = task_of(critic)
    with torch.no_grad():
        before = critic(task.obs).flatten()
    variance = error(task)
    GaussNewtonFit(cg_iters=20, damping=0.0, max_change=0.02).fit(task)
    with torch.no_grad():
        change = (critic(task.obs).flatten() - before).square().mean()
    assert float(change) / (2 * variance) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
def test_gauss_newton_follows_small_returns_without_a_learning_rate(scale):
    """Where a fixed learning rate would be too large, a few steps explain most of the variance."""
    torch.manual_seed(3)
    task = task_of(Mlp((OBS_DIM, 16, 1)), scale=scale)
    with torch.no_grad():  # start from no opinion
        task.critic.layers[-1].weight.zero_()
        task.critic.layers[-1].bias.zero_()
    before = error(task)
    GaussNewtonFit(steps=10, cg_iters=5).fit(task)
    assert error(task) < 0.3 * before


def test_a_critic_whose_parameter_is_reached_in_two_ways_is_refused_before_anything_changes():
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
