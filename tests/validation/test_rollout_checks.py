"""Rollouts that an update cannot use are refused before anything changes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from tianshou.data import Batch, VectorReplayBuffer

from trpo_ts.validation.rollout_checks import check_finite


def refused(policy: Any, buffer: VectorReplayBuffer, match: str) -> None:
    algorithm = make_trpo(policy, return_scaling=True)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match=match):
        update(algorithm, buffer)
    assert same(before, algorithm)
    assert algorithm.ret_rms.count == 0


def parts_of(buffer: VectorReplayBuffer) -> list[Batch]:
    return [part._meta for part in buffer.buffers]


# --- finite


def test_a_number_that_is_not_finite_is_named_with_its_place():
    obs = Batch(a=np.zeros((3, 2)), b=Batch(c=torch.tensor([0.0, np.nan, np.inf])))
    batch = Batch(obs=obs, obs_next=np.zeros(3), act=np.zeros(3, int), rew=np.zeros(3))
    with pytest.raises(ValueError, match=r"batch\.obs\.b\.c must be finite, got nan in row 1 \(2 of 3 rows\)"):
        check_finite(batch)
    batch.obs.b.c = torch.zeros(3)
    assert check_finite(batch) is None


# --- recorded in their order


def test_observations_that_were_overwritten_while_they_were_stored_are_named():
    policy = make_actor_policy()
    buffer = make_rollout(policy, end_probability=0.05)
    for meta in parts_of(buffer):
        meta.obs[:] = meta.obs[::-1].copy()
    match = r"batch\.obs must hold what batch\.obs_next of the row before holds .* in \d+ of \d+ rows, first in row 1;"
    refused(policy, buffer, match)


def test_observations_of_less_precision_than_the_next_ones_are_named():
    policy = make_actor_policy()
    buffer = make_rollout(policy, end_probability=0.05)
    for meta in parts_of(buffer):
        meta.obs[:] = meta.obs.astype(np.float32)
    refused(policy, buffer, "of one dtype in both")


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_other_rows_between_some_rows_are_no_error(share: float):
    policy = make_actor_policy()
    buffer = make_rollout(policy, end_probability=0.0)
    for meta in parts_of(buffer):
        changed = np.random.default_rng(0).random(len(meta.obs)) < share
        meta.obs_next[changed] += 1.0
    assert update(make_trpo(policy), buffer).accepted == 1.0


def test_a_few_rows_tell_nothing():
    policy = make_actor_policy()
    buffer = make_rollout(policy, n_envs=1, length=4, end_probability=0.0)
    for meta in parts_of(buffer):
        meta.obs_next += 1.0
    assert update(make_trpo(policy), buffer).accepted == 1.0


# --- drawn from the policy


def modes(policy: Any, buffer: VectorReplayBuffer) -> np.ndarray:
    with torch.no_grad():
        return policy(Batch(obs=buffer.sample(0)[0].obs, info={})).dist.mode.numpy()


def test_actions_that_are_all_the_mode_are_named():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    buffer._meta.act[:] = modes(policy, buffer)
    refused(policy, buffer, "batch.act must be drawn from the policy, got its most probable action in all of 64 rows;")


def test_some_modes_among_samples_are_no_error():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    buffer._meta.act[:40] = modes(policy, buffer)[:40]
    assert update(make_trpo(policy), buffer).accepted == 1.0


def test_a_policy_of_categories_that_is_certain_is_no_error():
    policy = make_actor_policy(discrete=True)
    with torch.no_grad():
        policy.actor.body.layers[-1].bias[0] = 100.0
    buffer = make_rollout(policy)
    before = copy.deepcopy(buffer._meta.act)
    assert update(make_trpo(policy), buffer).kl.mean >= 0.0
    assert (before == 0).all()
