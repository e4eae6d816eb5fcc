"""The contract of an update for policies with a memory."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import OBS_DIM, Mlp, make_trpo, update
from sequenced import CELLS, StepByStep, acting, make_sequence_critic, make_sequence_policy
from tianshou.algorithm.optim import AdamOptimizerFactory
from torch.distributions import kl_divergence


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_trust_region_holds_over_the_rollout(cell: str, discrete: bool, repeat: int) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        policy = make_sequence_policy(cell, discrete, torch.float32, scale=2.0)
        actor = acting(policy, seed=seed)
        actor.collect(7)
        actor.collect(20)
        algorithm = make_trpo(policy, make_sequence_critic(cell, torch.float32), max_kl=0.05)
        batch = actor.buffer.sample(0)[0]
        begins = np.roll(batch.done, 1)
        begins[::20] = True
        first = batch.policy.hidden_state.before[torch.as_tensor(begins)].double()
        before = StepByStep(copy.deepcopy(policy)).double()
        stats = update(algorithm, actor.buffer, 16, repeat)
        with torch.no_grad():
            old, new = (
                policy.dist_fn(module(torch.as_tensor(batch.obs).double(), first, begins))
                for module in (before, StepByStep(copy.deepcopy(policy)).double())
            )
            achieved = float(kl_divergence(old, new).mean())
        assert stats.step_size.mean > 0
        assert achieved <= 0.05 * (1 + 1e-3)
        assert stats.kl.mean == pytest.approx(achieved, rel=0.02)


def test_an_update_goes_the_same_way_after_a_state_was_saved_and_loaded(tmp_path: Any) -> None:
    policy = make_sequence_policy("lstm", discrete=True)
    actor = acting(policy, mean_length=40.0)
    algorithm = make_trpo(policy, make_sequence_critic("lstm"))
    actor.collect(10)
    update(algorithm, actor.buffer)
    torch.save(algorithm.state_dict(), tmp_path / "state.pt")
    other_policy = make_sequence_policy("lstm", discrete=True)
    other = make_trpo(other_policy, make_sequence_critic("lstm"))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    actor.collect(10)
    for a in (algorithm, other):
        update(a, actor.buffer)
    for a, b in zip(algorithm.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_plain_critic_beside_a_policy_with_a_memory() -> None:
    policy = make_sequence_policy("gru", discrete=True, dtype=torch.float32)
    critic = Mlp((OBS_DIM, 8, 1))
    algorithm = make_trpo(policy, critic, optim_critic_iters=20, optim=AdamOptimizerFactory(lr=1e-2))
    actor = acting(policy)
    actor.collect(20)
    before = [p.clone() for p in critic.parameters()]
    first = update(algorithm, actor.buffer, 16)
    assert first.step_size.mean > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))
