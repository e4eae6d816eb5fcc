"""An update goes through the very sequences in which a policy with a memory acted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rollouts import DISCRETE, OBS_DIM, make_actor_policy, make_rollout, make_trpo, update
from sequenced import (
    CELLS,
    acting,
    logp_old,
    make_sequence_critic,
    make_sequence_policy,
    problem_and_start,
    rollout_from,
)
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.data import VectorReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, RecurrentActorProb
from tianshou.utils.net.discrete import DiscreteActor
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor

from trpo_ts.recurrent.cells import make_cell
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk

PRECISION = {torch.float32: 1e-5, torch.float64: 1e-12}


# What is replayed is what was acted


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_log_probabilities_are_the_behaviours(cell: str, discrete: bool, dtype: torch.dtype, normalised: bool) -> None:
    """Over rollouts that begin and end inside episodes, and after a reset; whole sequences and chunks of rows."""
    torch.manual_seed(0)
    policy = make_sequence_policy(cell, discrete, dtype)
    algorithm = make_trpo(policy, make_sequence_critic(cell, dtype), max_kl=0.1, max_batchsize=7)
    actor = acting(policy, normalised=normalised)
    kinds = set()
    for number in range(4):
        if number == 2:
            actor.collector.reset_env()
        behaviour = actor.collect(23)
        batch, _ = actor.buffer.sample(0)
        rollout = rollout_from(algorithm, actor.buffer)
        problem, start = problem_and_start(algorithm, rollout)
        with torch.no_grad():
            replayed = problem.policy_function(start.theta, slice(0, 92)).log_prob(rollout.act)
        assert (problem.logp_old - behaviour).abs().max() <= PRECISION[dtype]
        assert (replayed - behaviour).abs().max() <= PRECISION[dtype]
        assert behaviour.std() > 0.01
        first = batch.policy.hidden_state.before[::23]
        kinds |= {("begins inside", number, bool((first != 0).any())), ("terminated", bool(batch.terminated.any()))}
        kinds |= {("truncated", bool(batch.truncated.any())), ("ends inside", bool((~batch.done[22::23]).any()))}
        stats = update(algorithm, actor.buffer)
        assert stats.step_size.mean > 0
    assert {("begins inside", 1, True), ("begins inside", 2, False), ("begins inside", 3, True)} <= kinds
    assert {("terminated", True), ("truncated", True), ("ends inside", True)} <= kinds


@pytest.mark.parametrize("cell", CELLS)
def test_a_fresh_start_in_the_middle_of_the_buffer_begins_a_sequence(cell: str) -> None:
    """The collector is reset between two collections into one buffer: no row says that an episode has ended."""
    policy = make_sequence_policy(cell, discrete=True)
    algorithm = make_trpo(policy, make_sequence_critic(cell))
    actor = acting(policy, n_envs=1, mean_length=1e9)
    behaviour = [actor.collect(10)]
    actor.collector.reset_env()
    behaviour.append(actor.collect_more(10))
    rollout = rollout_from(algorithm, actor.buffer)
    assert not actor.buffer.sample(0)[0].done.any()
    assert rollout.starts.tolist() == [0, 10]
    torch.testing.assert_close(logp_old(algorithm, actor.buffer), torch.cat(behaviour), rtol=0, atol=1e-12)


def test_a_buffer_that_lost_its_oldest_rows_is_replayed_from_the_rest() -> None:
    policy = make_sequence_policy("gru", discrete=False)
    algorithm = make_trpo(policy, make_sequence_critic("gru"))
    actor = acting(policy, n_envs=2, size=16)
    behaviour = actor.collect(25).view(2, 25)[:, 9:].reshape(-1)
    torch.testing.assert_close(logp_old(algorithm, actor.buffer), behaviour, rtol=0, atol=1e-12)


def test_the_updated_policy_continues_from_the_state_it_had() -> None:
    """A step between two rollouts changes the parameters, not the collector's states."""
    policy = make_sequence_policy("gru", discrete=True)
    algorithm = make_trpo(policy, make_sequence_critic("gru"), max_kl=0.5)
    actor = acting(policy, mean_length=1e9)
    actor.collect(5)
    last = actor.buffer.sample(0)[0].policy.hidden_state.after[4::5].clone()
    update(algorithm, actor.buffer)
    actor.collect(5)
    assert torch.equal(actor.buffer.sample(0)[0].policy.hidden_state.before[::5], last)


def test_episodes_collected_by_number_are_replayed_as_well() -> None:
    """Environments that are done drop out one by one; rewards take the place of the behaviour's log-probabilities."""
    policy = make_sequence_policy("lstm", discrete=False)
    algorithm = make_trpo(policy, make_sequence_critic("lstm"))
    actor = acting(policy)

    def note(action_batch: Any, rollout_batch: Any) -> None:
        rollout_batch.rew[:] = action_batch.dist.log_prob(torch.as_tensor(action_batch.act)).detach().numpy()

    actor.collector._on_step_hook = note
    with policy_within_training_step(policy):
        actor.collector.collect(n_episode=10)
    rewards = torch.as_tensor(actor.buffer.sample(0)[0].rew)
    assert len(rollout_from(algorithm, actor.buffer).starts) == 10
    torch.testing.assert_close(logp_old(algorithm, actor.buffer), rewards, rtol=0, atol=1e-12)


class OwnForward(ProbabilisticActorPolicy):
    """A policy with a forward pass of its own."""

    def forward(self, batch: Any, state: Any = None) -> Any:
        return super().forward(batch, state)


def test_policies_with_a_forward_pass_of_their_own_are_replayed_by_it() -> None:
    plain = make_sequence_policy("gru", discrete=True)
    policy = OwnForward(
        actor=plain.actor, dist_fn=plain.dist_fn, action_space=DISCRETE, action_scaling=False, action_bound_method=None
    )
    actor = acting(policy)
    behaviour = actor.collect(20)
    algorithm = make_trpo(policy, make_sequence_critic("gru"))
    torch.testing.assert_close(logp_old(algorithm, actor.buffer), behaviour, rtol=0, atol=1e-12)
    assert update(algorithm, actor.buffer).step_size.mean > 0


def test_the_trunk_serves_in_actors_of_tianshou_that_hand_its_state_through() -> None:
    trunk = RecurrentTrunk(Net(state_shape=OBS_DIM, hidden_sizes=(8,)), make_cell("gru", 8, 8))
    actor = DiscreteActor(preprocess_net=trunk, action_shape=4, softmax_output=False)
    policy = DiscreteActorPolicy(actor=actor, action_space=DISCRETE)
    collected = acting(policy)
    algorithm = make_trpo(policy)
    for _ in range(2):
        behaviour = collected.collect(20)
        torch.testing.assert_close(logp_old(algorithm, collected.buffer).float(), behaviour, rtol=0, atol=1e-5)
        assert update(algorithm, collected.buffer).step_size.mean > 0


# Wrong use


def test_tianshous_recurrent_actor_is_refused_before_anything_changes() -> None:
    """It would be gone through from a state in which it did not act."""
    actor = RecurrentActorProb(layer_num=1, state_shape=(OBS_DIM,), action_shape=(2,), hidden_layer_size=4)
    policy = make_actor_policy(actor=actor)
    collected = acting(policy)
    collected.collect(8)
    algorithm = make_trpo(policy)
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(ValueError, match=r"policy must .* got a RecurrentActorProb that keeps a state"):
        update(algorithm, collected.buffer)
    after = algorithm.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if isinstance(before[k], Tensor))


def test_a_buffer_without_states_is_refused() -> None:
    policy = make_sequence_policy("gru", discrete=True, dtype=torch.float32)
    buffer = make_rollout(policy)
    with pytest.raises(ValueError, match=r"buffer must hold the policy's state .* got none"):
        update(make_trpo(policy), buffer)


def test_an_actor_that_drops_its_trunks_state_is_refused() -> None:
    """As Tianshou's own for continuous actions does: it would act from a zero state at every step."""
    trunk = RecurrentTrunk(Net(state_shape=OBS_DIM, hidden_sizes=(8,)), make_cell("gru", 8, 8))
    policy = make_actor_policy(actor=ContinuousActorProbabilistic(preprocess_net=trunk, action_shape=2, unbounded=True))
    collected = acting(policy)
    collected.collect(8)
    with pytest.raises(ValueError, match=r"got none; .* whose actor must return the state of its trunk"):
        update(make_trpo(policy), collected.buffer)


def test_stacked_observations_are_refused() -> None:
    policy = make_sequence_policy("gru", discrete=True, dtype=torch.float32)
    actor = acting(policy)
    actor.buffer = VectorReplayBuffer(64, 4, stack_num=2)
    actor.collector.buffer = actor.buffer
    actor.collect(8)
    with pytest.raises(ValueError, match=r"hidden_state must have shape \(32, 5\), got \(32, 2, 5\).*stack_num=1"):
        update(make_trpo(policy), actor.buffer)
