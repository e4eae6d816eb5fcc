"""What passes between the two calls of Tianshou's update."""

from __future__ import annotations

import pytest
import torch
from rollouts import make_actor_policy, make_rollout, make_trpo, parameters_of, same
from torch import nn

from trpo_ts.rollout import Rollout
from trpo_ts.tianshou_adapter import OwnParameters, rollout_of, torch_optimizer


def test_the_batch_gets_the_fields_that_tianshou_documents_and_carries_the_rollout():
    policy = make_actor_policy()
    algorithm, buffer = make_trpo(policy), make_rollout(policy)
    batch, indices = buffer.sample(0)
    before = set(batch.get_keys())
    prepared = algorithm._preprocess_batch(batch, buffer, indices)
    rollout = rollout_of(prepared)
    assert isinstance(rollout, Rollout)
    assert set(prepared.get_keys()) == before | {"v_s", "returns", "adv"}
    assert set(batch.get_keys()) == before
    for found, expected in zip(
        (prepared.v_s, prepared.returns, prepared.adv), (rollout.values, rollout.returns, rollout.adv), strict=True
    ):
        assert torch.equal(found, expected)
    assert len(prepared) == len(rollout)
    assert torch.equal(prepared[3:7].adv, rollout.adv[3:7])
    assert sum(len(part) for part in prepared.split(16)) == len(rollout)


def test_the_two_calls_are_the_update():
    """Wrappers and multi-agent algorithms of Tianshou make them by themselves."""
    policy = make_actor_policy()
    algorithm, buffer = make_trpo(policy), make_rollout(policy)
    batch, indices = buffer.sample(0)
    before = parameters_of(policy)
    stats = algorithm._update_with_batch(algorithm._preprocess_batch(batch, buffer, indices), None, 1)
    assert stats.accepted == 1.0
    assert not same(before, policy)


def test_the_optimiser_holds_the_critics_own_parameters():
    policy = make_actor_policy()
    critic = nn.Sequential(policy.actor.body, nn.Linear(2, 1))
    algorithm = make_trpo(policy, critic)
    held = [p for group in torch_optimizer(algorithm.optim).param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(p) for p in critic[1].parameters()]
    assert [id(p) for p in OwnParameters(critic, policy).parameters()] == [id(p) for p in held]
    with pytest.raises(ValueError, match="critic must have parameters of its own"):
        OwnParameters(policy.actor.body, policy)
