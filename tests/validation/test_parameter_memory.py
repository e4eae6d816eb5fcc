"""Policy and critic are separate in memory, or share modules."""

from __future__ import annotations

import pytest
import torch
from rollouts import ACT_DIM, OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from torch import nn

from trpo_ts.validation.parameter_memory import check_separate


@pytest.mark.parametrize("part", [slice(None), slice(0, 4)], ids=["whole", "view"])
def test_a_critic_in_the_policys_memory_is_refused_before_anything_changes(part: slice):
    policy = make_actor_policy()
    critic = Mlp((OBS_DIM, 8, 1))
    weight = policy.actor.body.layers[0].weight.data[part]
    critic.layers[0] = nn.Linear(OBS_DIM, len(weight))
    critic.layers[2] = nn.Linear(len(weight), 1)
    critic.layers[0].weight.data = weight
    algorithm = make_trpo(policy, critic)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match=r"got layers\.0\.weight in the same memory as the policy's"):
        update(algorithm, make_rollout(policy))
    assert same(before, algorithm)


def test_a_shared_module_is_no_error_since_the_fit_leaves_it_alone():
    policy = make_actor_policy()
    critic = nn.Sequential(policy.actor.body, nn.Linear(ACT_DIM, 1))
    assert update(make_trpo(policy, critic), make_rollout(policy)).accepted == 1.0


def test_empty_parameters_share_nothing():
    policy, critic = nn.Linear(0, 2, bias=False), nn.Linear(0, 2, bias=False)
    assert check_separate(policy, critic, list(critic.parameters())) is None


def test_buffers_of_the_policy_count_too():
    policy, critic = nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False)
    critic.weight.data = policy.running_mean[None]
    with pytest.raises(ValueError, match="got weight in the same memory"):
        check_separate(policy, critic, [critic.weight])
    assert torch.equal(policy.running_mean, torch.zeros(3))
