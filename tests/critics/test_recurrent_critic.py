"""Critics with a memory: values along episodes, also across rollouts, and their fits."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import Mlp, make_actor_policy, make_trpo, parameters_of, same, update
from sequenced import (
    WIDTH,
    Acting,
    Encoder,
    acting,
    make_sequence_critic,
    make_sequence_policy,
    rollout_from,
    step_by_step,
)
from tianshou.data import Batch
from torch import Tensor
from torch.nn import functional as F

from trpo_ts.critics import (
    CriticTask,
    GaussNewtonFit,
    LBFGSFit,
    MinibatchFit,
    OptimizerFit,
    RecurrentCritic,
    make_recurrent_critic,
)
from trpo_ts.critics.optimizer_fit import accumulate_gradient
from trpo_ts.recurrent.cells import make_cell
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk
from trpo_ts.recurrent.sequences import SequencedObs
from trpo_ts.rollout import Transitions
from trpo_ts.state_values import values_of

CELLS = ("gru", "lstm")
FITS = [
    OptimizerFit(20),
    OptimizerFit(10, batch_size=16),
    MinibatchFit(epochs=10, batch_size=16),
    GaussNewtonFit(),
    GaussNewtonFit(preconditioner=None),
    LBFGSFit(),
]


def plain_acting(mean_length: float = 6.0) -> Acting:
    """Collect with a policy without memory: the critic must not need the states of one."""
    return acting(make_actor_policy(discrete=True, dtype=torch.float64), n_envs=3, mean_length=mean_length)


def values_along(
    critic: RecurrentCritic, buffer: Any, max_batchsize: int = 1000
) -> tuple[SequencedObs, Tensor, Tensor]:
    batch, indices = buffer.sample(0)
    transitions = Transitions.of_batch(
        batch, buffer, indices, actor=critic, device=torch.device("cpu"), dtype=torch.float64
    )
    return values_of(critic, transitions, max_batchsize)


# Values


@pytest.mark.parametrize("max_batchsize", [1, 10, 1000])
@pytest.mark.parametrize("cell", CELLS)
def test_values_are_those_of_the_network_unrolled_step_by_step(cell: str, max_batchsize: int) -> None:
    actor = plain_acting()
    actor.collect(20)
    critic = make_sequence_critic(cell)
    obs, values, next_values = values_along(critic, actor.buffer, max_batchsize)

    rollout = actor.buffer.sample(0)[0]
    begins = np.roll(rollout.done, 1)
    begins[::20] = True
    zeros = torch.zeros(int(begins.sum()), critic.trunk.cell.state_size, dtype=torch.float64)
    with torch.no_grad():
        after = step_by_step(critic.trunk, torch.as_tensor(rollout.obs).double(), zeros, begins)
        reached = step_by_step(critic.trunk, torch.as_tensor(rollout.obs_next).double(), after, np.ones(60, bool))
        expected, expected_next = (critic.head(states[:, :WIDTH]).flatten() for states in (after, reached))
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(next_values, expected_next, rtol=0, atol=1e-12)
    assert values.std() > 1e-3
    np.testing.assert_array_equal(obs.sequences.starts, np.flatnonzero(begins))


@pytest.mark.parametrize("cell", CELLS)
def test_values_continue_where_an_episode_runs_into_the_next_rollout(cell: str) -> None:
    """Three rollouts one after another are valued as one long rollout is."""
    actor = plain_acting(mean_length=12.0)
    critic = make_sequence_critic(cell)
    parts = []
    for _ in range(3):
        actor.collect(9)
        parts.append(values_along(critic, actor.buffer)[1].view(3, 9))
    again = plain_acting(mean_length=12.0)
    again.policy.load_state_dict(actor.policy.state_dict())
    for _ in range(3):  # the environments are the same; only the observations matter here
        again.collect_more(9)
    whole = values_along(make_from(critic), again.buffer)[1].view(3, 27)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)


def make_from(critic: RecurrentCritic) -> RecurrentCritic:
    """Return a critic of the same parameters that keeps nothing yet."""
    other = copy.deepcopy(critic)
    other.set_extra_state({})
    return other


def test_values_start_anew_after_a_reset_and_in_other_environments() -> None:
    actor = plain_acting(mean_length=1e9)
    critic = make_sequence_critic("gru")
    for prepare in (lambda: None, actor.collector.reset_env):
        prepare()
        actor.collect(9)
        torch.testing.assert_close(
            values_along(critic, actor.buffer)[1], values_along(make_from(critic), actor.buffer)[1], rtol=0, atol=0
        )
    actor.collect(9)
    assert (values_along(make_from(critic), actor.buffer)[1] - values_along(critic, actor.buffer)[1]).abs().max() > 1e-6


def test_nothing_is_kept_where_all_episodes_are_complete() -> None:
    actor = plain_acting(mean_length=1.0)
    actor.collect(5)
    critic = make_sequence_critic("gru")
    values_along(critic, actor.buffer)
    assert all(len(part) == 0 for part in critic.get_extra_state().values())


def test_nested_observations_are_told_apart() -> None:
    critic = make_recurrent_critic(make_actor_policy().observation_space, hidden_size=4)
    obs = Batch(a=torch.arange(6).view(2, 3), b=Batch(c=torch.tensor([0.5, 1.5])))
    critic.keep(np.array([0, 3]), obs, torch.ones(2, 4))
    other = Batch(a=torch.arange(6).view(2, 3), b=Batch(c=torch.tensor([0.5, 2.5])))
    torch.testing.assert_close(critic.kept(np.array([0, 3]), obs), torch.ones(2, 4))
    torch.testing.assert_close(critic.kept(np.array([0, 3]), other), torch.tensor([[1.0] * 4, [0.0] * 4]))
    torch.testing.assert_close(critic.kept(np.array([3, 0]), obs), torch.zeros(2, 4))


# Fits


def task_of(cell: str = "gru", micro_batch_size: int | None = None, rows: int = 20) -> CriticTask:
    """Return a fit whose targets are to be learned from what was seen before."""
    torch.manual_seed(0)
    actor = plain_acting()
    actor.collect(rows)
    critic = make_sequence_critic(cell)
    obs, _, _ = values_along(critic, actor.buffer)
    seen = torch.as_tensor(obs.obs).double()
    returns = 2.0 + seen[:, 0] + seen[:, 1].roll(1)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    return CriticTask(critic, optimizer, obs, returns, micro_batch_size)


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_every_fit_lowers_the_error(cell: str, fit: Any) -> None:
    task = task_of(cell)
    (before,) = OptimizerFit(0).fit(task)
    fit.fit(task)
    (after,) = OptimizerFit(0).fit(task)
    assert after < 0.97 * before


@pytest.mark.parametrize("fit", [*FITS[:-1], GaussNewtonFit(steps=2), LBFGSFit(iterations=3)], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_micro_batches_change_no_fit(cell: str, fit: Any) -> None:
    whole, parts = task_of(cell), task_of(cell, micro_batch_size=7)
    for task in (whole, parts):
        torch.manual_seed(1)
        fit.fit(task)
    for a, b in zip(whole.critic.parameters(), parts.critic.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_the_unrolled_network(cell: str) -> None:
    task = task_of(cell, micro_batch_size=7)
    accumulate_gradient(task, task.own, slice(0, len(task.returns)), len(task.returns))
    trunk = task.critic.trunk
    starts = task.obs.sequences.starts
    begins = np.zeros(len(task.returns), bool)
    begins[starts] = True
    zeros = torch.zeros(len(starts), trunk.cell.state_size, dtype=torch.float64)
    states = step_by_step(trunk, torch.as_tensor(task.obs.obs).double(), zeros, begins)
    loss = F.mse_loss(task.critic.head(states[:, :WIDTH]).flatten(), task.returns)
    for p, expected in zip(task.own, torch.autograd.grad(loss, task.own), strict=True):
        torch.testing.assert_close(p.grad, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 59])
def test_minibatches_are_whole_sequences_and_together_all_rows(batch_size: int) -> None:
    task = task_of()
    starts = set(task.obs.sequences.starts.tolist())
    ends = {start - 1 for start in starts - {0}} | {len(task.returns) - 1}
    seen: list[list[int]] = []

    def forward(obs: SequencedObs) -> None:
        seen.append(obs.sequences.row.tolist())

    task.critic.register_forward_pre_hook(lambda module, args: forward(*args))
    OptimizerFit(1, batch_size).fit(task)
    assert sorted(row for rows in seen for row in rows) == list(range(len(task.returns)))
    assert all(len(rows) >= batch_size for rows in seen)
    assert len(seen) > 1 or batch_size > 30
    for rows in seen:
        for previous, row in pairwise(rows):
            assert row == previous + 1 or (row in starts and previous in ends)
        assert rows[0] in starts
        assert rows[-1] in ends


@pytest.mark.parametrize("cell", CELLS)
def test_rows_that_a_users_fit_cuts_continue_from_the_states_of_the_values(cell: str) -> None:
    task = task_of(cell)
    with torch.no_grad():
        whole = task.critic(task.obs)
        for rows in (slice(3, 30), torch.tensor([5, 6, 7, 2, 3, 59, 0])):
            torch.testing.assert_close(task.critic(task.obs[rows]), whole[rows], rtol=0, atol=1e-12)


# In an update


@pytest.mark.parametrize("fit", [None, *FITS], ids=str)
def test_updates_fit_it(fit: Any) -> None:
    torch.manual_seed(0)
    policy = make_sequence_policy("gru", discrete=True)
    critic = make_sequence_critic("lstm")
    actor = acting(policy)
    algorithm = make_trpo(policy, critic, critic_fit=fit, return_scaling=True)
    before = parameters_of(critic)
    for _ in range(2):
        actor.collect(15)
        update(algorithm, actor.buffer, 16)
    assert not same(before, critic)
    assert critic.training


def test_beside_a_policy_without_memory() -> None:
    actor = plain_acting()
    critic = make_sequence_critic("gru")
    algorithm = make_trpo(actor.policy, critic, critic_fit=GaussNewtonFit(), micro_batch_size=7)
    before = parameters_of(critic)
    actor.collect(15)
    assert update(algorithm, actor.buffer).step_size.mean > 0
    assert not same(before, critic)


def test_a_shared_trunk_is_the_policys() -> None:
    torch.manual_seed(0)
    policy = make_sequence_policy("gru", discrete=True)
    critic = RecurrentCritic(policy.actor.trunk, Mlp((WIDTH, 4, 1)).double())
    algorithm = make_trpo(policy, critic, critic_fit=GaussNewtonFit())
    actor = acting(policy)
    actor.collect(15)
    rollout = rollout_from(algorithm, actor.buffer)
    before, head = parameters_of(policy), parameters_of(critic.head)
    algorithm._fit_critic(rollout, None)
    assert same(before, policy)
    assert not same(head, critic.head)


# Encoders that work in place


class InPlace(Encoder):
    """Scales its observations in their own memory, or in memory of its own."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        return super().forward(np.multiply(obs, 0.5, out=obs if self.in_place else None, dtype=obs.dtype))


@pytest.mark.parametrize("fit", FITS, ids=repr)
def test_an_encoder_that_works_in_place_changes_no_later_pass(fit: Any) -> None:
    """A slice of the observations would be a view, and each pass would halve it again."""
    actor = plain_acting()
    actor.collect(20)
    ends = []
    for in_place in (False, True):
        torch.manual_seed(0)
        critic = RecurrentCritic(RecurrentTrunk(InPlace(in_place), make_cell("gru", 4, WIDTH)), Mlp((WIDTH, 4, 1)))
        algorithm = make_trpo(copy.deepcopy(actor.policy), critic.double(), critic_fit=fit)
        buffer = copy.deepcopy(actor.buffer)
        before = buffer.obs.copy()
        update(algorithm, buffer)
        np.testing.assert_array_equal(buffer.obs, before)
        ends.append(parameters_of(algorithm))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
