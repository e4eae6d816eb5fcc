"""Natural policy gradient, and the arguments of an update."""

from __future__ import annotations

import copy

import pytest
import torch
from rollouts import OBS_DIM, Mlp, assert_finite, make_actor_policy, make_rollout, make_trpo, mean_kl, update
from tianshou.algorithm.optim import TorchOptimizerFactory
from tianshou.data import VectorReplayBuffer

from trpo_ts import NPG


def test_empty_buffer_is_an_error():
    policy = make_actor_policy()
    with pytest.raises(ValueError, match="buffer must hold at least one transition"):
        update(make_trpo(policy), VectorReplayBuffer(8, 2))


@pytest.mark.parametrize(
    ("batch_size", "repeat", "name"), [(0, 1, "batch_size"), (-1, 1, "batch_size"), (4, 0, "repeat")]
)
def test_bad_update_arguments_are_errors(batch_size, repeat, name):
    policy = make_actor_policy()
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1"):
        update(make_trpo(policy), make_rollout(policy), batch_size, repeat)


def test_npg_moves_by_its_factor_and_reports():
    torch.manual_seed(17)
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    algorithm = NPG(
        policy=policy,
        critic=Mlp((OBS_DIM, 8, 1)),
        optim=TorchOptimizerFactory(torch.optim.SGD, lr=1e-3),
        trust_region_size=0.05,
    )
    before = copy.deepcopy(policy)
    stats = update(algorithm, buffer, 16, 2)
    assert stats.accepted == 1.0
    assert stats.kl.mean == pytest.approx(mean_kl(before, policy, buffer), rel=1e-3)
    assert_finite(stats)
