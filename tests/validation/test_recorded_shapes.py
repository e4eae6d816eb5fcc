"""Rewards of other shapes, and buffers that stack observations."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import OBS_DIM, Bandit, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.data import Batch, Collector, ReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor

from trpo_ts.tianshou_adapter import stacks_observations
from trpo_ts.validation.recorded_shapes import check_stacking, with_scalar_rewards

COLUMNS: dict[str, Any] = {
    "a column": lambda rew: rew[:, None],
    "a column of a column": lambda rew: rew[:, None, None],
    "a tensor": lambda rew: torch.as_tensor(rew),
    "a column of a tensor": lambda rew: torch.as_tensor(rew)[:, None],
    "objects": lambda rew: rew.astype(object),
}


def learner() -> tuple[Any, Any]:
    torch.manual_seed(0)
    policy = make_actor_policy()
    return make_trpo(policy), make_rollout(policy)


@pytest.mark.parametrize("shape", COLUMNS)
def test_updates_are_those_of_plain_rewards(shape: str) -> None:
    reference, plain = learner()
    algorithm, buffer = learner()
    buffer._meta.__dict__["rew"] = COLUMNS[shape](plain.rew)
    expected, stats = update(reference, plain), update(algorithm, buffer)
    assert stats.kl.mean == expected.kl.mean > 0.0
    assert stats.vf_loss.mean == expected.vf_loss.mean
    for p, q in zip(algorithm.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p, q)


class InAnArray(Bandit):
    def step(self, action: int) -> Any:
        obs, rew, *rest = super().step(action)
        return obs, np.array([rew]), *rest


def test_an_environment_may_return_its_reward_in_an_array() -> None:
    torch.manual_seed(0)
    policy = make_actor_policy(discrete=True)
    algorithm = make_trpo(policy, max_kl=0.1)
    collector = Collector(policy, DummyVectorEnv([InAnArray] * 4), VectorReplayBuffer(256, 4))
    collector.reset()
    returns = []
    for _ in range(10):
        with policy_within_training_step(policy):
            returns.append(collector.collect(n_step=256).returns.mean())
        assert collector.buffer.rew.shape == (256, 1)
        update(algorithm, collector.buffer)
        collector.reset_buffer()
    assert returns[-1] > returns[0] + 0.3


@pytest.mark.parametrize(
    ("rewards", "got"),
    [
        (np.zeros((64, 2)), r"shape \(64, 2\) of float64"),
        (np.zeros((64, 0)), r"shape \(64, 0\) of float64"),
        (np.array(["high"] * 64, dtype=object), r"shape \(64,\) of object"),
    ],
)
def test_rewards_that_are_not_one_number_are_refused_before_anything_changes(rewards: Any, got: str) -> None:
    algorithm, buffer = learner()
    buffer._meta.__dict__["rew"] = rewards
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(ValueError, match=rf"^batch.rew must hold one number for each of 64 rows, got {got}"):
        update(algorithm, buffer)
    after = algorithm.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if isinstance(before[key], Tensor))


def test_the_callers_batch_keeps_its_rewards() -> None:
    batch = Batch(rew=np.zeros((3, 1)), act=np.zeros(3))
    assert with_scalar_rewards(batch).rew.shape == (3,)
    assert batch.rew.shape == (3, 1)
    plain = Batch(rew=np.zeros(3), act=np.zeros(3))
    assert with_scalar_rewards(plain) is plain


@pytest.mark.parametrize("buffer", [VectorReplayBuffer(64, 4, stack_num=4), ReplayBuffer(64, stack_num=4)])
def test_a_buffer_that_stacks_what_the_policy_saw_singly_is_refused(buffer: Any) -> None:
    assert stacks_observations(buffer)
    with pytest.raises(ValueError, match=r"^buffer must have stack_num=1, got 4: .*FrameStackObservation"):
        check_stacking(buffer)


@pytest.mark.parametrize(
    "buffer",
    [
        VectorReplayBuffer(64, 4),
        VectorReplayBuffer(64, 4, stack_num=4, save_only_last_obs=True, ignore_obs_next=True),
        ReplayBuffer(64, stack_num=4, save_only_last_obs=True),
    ],
)
def test_a_buffer_that_restores_the_environments_stacks_is_none(buffer: Any) -> None:
    check_stacking(buffer)


def test_it_is_named_in_an_update() -> None:
    policy = make_actor_policy()
    source = make_rollout(policy)
    buffer = VectorReplayBuffer(64, 4, stack_num=2)
    rows = source.sample(0)[0]
    for i in range(16):
        part = rows[[i, 16 + i, 32 + i, 48 + i]]
        buffer.add(part, buffer_ids=np.arange(4))
    with pytest.raises(ValueError, match=r"^buffer must have stack_num=1, got 2"):
        update(make_trpo(policy, Mlp((OBS_DIM, 1))), buffer)
