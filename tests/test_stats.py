"""The training stats."""

from __future__ import annotations

import pytest
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.algorithm import TRPO as TianshouTRPO
from tianshou.algorithm.optim import AdamOptimizerFactory


def zero_critic():
    critic = Mlp((OBS_DIM, 1))
    for p in critic.parameters():
        torch.nn.init.zeros_(p)
    return critic


def test_the_scale_of_the_rewards_does_not_change_the_number_of_products():
    products = set()
    for scale in (1e-8, 1.0, 1e8):
        torch.manual_seed(0)
        policy = make_actor_policy()
        algorithm = make_trpo(policy, zero_critic(), advantage_normalization=False, preconditioner=None)
        stats = update(algorithm, make_rollout(policy, reward_scale=scale))
        assert stats.accepted == 1.0
        products.add(stats.cg_iterations)
    assert len(products) == 1
    assert products.pop() < algorithm.cg_iters


def test_the_actor_loss_is_the_loss_after_the_step():
    torch.manual_seed(0)
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    theirs = TianshouTRPO(policy=make_actor_policy(), critic=zero_critic(), optim=AdamOptimizerFactory())
    theirs.policy.load_state_dict(policy.state_dict())
    stats = update(make_trpo(policy, zero_critic(), advantage_normalization=True), buffer)
    assert stats.actor_loss.mean == pytest.approx(-stats.surrogate_improvement, abs=1e-6)  # 0 before it
    assert stats.actor_loss.mean < -1e-3
    assert abs(update(theirs, buffer).actor_loss.mean) < 1e-6
