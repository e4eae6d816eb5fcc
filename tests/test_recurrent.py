"""Policies with a memory: an update goes through the very sequences in which they acted."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import BOX, DISCRETE, OBS_DIM, OBSERVATIONS, Mlp, make_actor_policy, make_rollout, make_trpo, update
from sequenced import (
    acting,
    make_sequence_critic,
    make_sequence_policy,
    preprocessed,
    problem_of,
    step_by_step,
)
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, VectorReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, RecurrentActorProb
from tianshou.utils.net.discrete import DiscreteActor
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn
from torch.autograd.functional import hvp
from torch.distributions import kl_divergence
from torch.func import functional_call

from trpo_ts import KFAC
from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.critics import make_recurrent_critic
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.policies import make_recurrent_policy
from trpo_ts.recurrent.cells import GRU, LSTM, make_cell
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk
from trpo_ts.recurrent.sequences import Sequences
from trpo_ts.solver.conjugate_gradient import conjugate_gradient
from trpo_ts.solver.linear_operators import damped

CELLS = ("gru", "lstm")
PRECISION = {torch.float32: 1e-5, torch.float64: 1e-12}


# The cells


@pytest.mark.parametrize(("cell", "reference"), [(GRU, nn.GRU), (LSTM, nn.LSTM)])
def test_cells_are_pytorchs(cell: Any, reference: Any) -> None:
    own = cell(3, 4).double()
    theirs = reference(3, 4, batch_first=True).double()
    with torch.no_grad():
        for ours, name in ((own.input, "ih"), (own.recurrent, "hh")):
            ours.bias.normal_()
            getattr(theirs, f"weight_{name}_l0").copy_(ours.weight)
            getattr(theirs, f"bias_{name}_l0").copy_(ours.bias)
    obs = torch.randn(2, 6, 3, dtype=torch.float64)
    state = torch.zeros(2, own.state_size, dtype=torch.float64)
    outputs = []
    for obs_t in obs.unbind(1):
        state = own.step(own.input(obs_t), state)
        outputs.append(state[:, :4])
    torch.testing.assert_close(torch.stack(outputs, 1), theirs(obs)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_a_new_cell_keeps_its_state_more_than_it_writes(cell: str) -> None:
    """The gate that keeps the state stands open by the bias alone."""
    new = make_cell(cell, 3, 4)
    state = torch.full((1, new.state_size), 0.5)
    after = new.step(new.input(torch.zeros(1, 3)), torch.cat([torch.zeros(1, 4), state[:, 4:]], 1))
    gates = new.input(torch.zeros(1, 3))
    assert torch.sigmoid(gates[0, 4:8]).min() > 0.7
    assert torch.sigmoid(gates[0, :4]).max() <= 0.5
    assert torch.isfinite(after).all()


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
    for rollout in range(4):
        if rollout == 2:
            actor.collector.reset_env()
        behaviour = actor.collect(23)
        batch = preprocessed(algorithm, actor.buffer)
        problem = problem_of(algorithm, batch)
        with torch.no_grad():
            replayed = problem._distribution(problem.theta_old, slice(0, 92)).log_prob(batch.act)
        assert (batch.logp_old - behaviour).abs().max() <= PRECISION[dtype]
        assert (replayed - behaviour).abs().max() <= PRECISION[dtype]
        assert behaviour.std() > 0.01
        first = batch.policy.hidden_state.before[::23]
        kinds |= {("begins inside", rollout, bool((first != 0).any())), ("terminated", bool(batch.terminated.any()))}
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
    batch = preprocessed(algorithm, actor.buffer)
    assert not batch.done.any()
    assert batch.sequences.starts.tolist() == [0, 10]
    torch.testing.assert_close(batch.logp_old, torch.cat(behaviour), rtol=0, atol=1e-12)


def test_a_buffer_that_lost_its_oldest_rows_is_replayed_from_the_rest() -> None:
    policy = make_sequence_policy("gru", discrete=False)
    algorithm = make_trpo(policy, make_sequence_critic("gru"))
    actor = acting(policy, n_envs=2, size=16)
    behaviour = actor.collect(25).view(2, 25)[:, 9:].reshape(-1)
    batch = preprocessed(algorithm, actor.buffer)
    torch.testing.assert_close(batch.logp_old, behaviour, rtol=0, atol=1e-12)


def test_the_updated_policy_goes_on_from_the_state_it_had() -> None:
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
    """Environments that are done drop out one by one; rewards stand in for the behaviour's log-probabilities."""
    policy = make_sequence_policy("lstm", discrete=False)
    algorithm = make_trpo(policy, make_sequence_critic("lstm"))
    actor = acting(policy)

    def note(action_batch: Any, rollout_batch: Any) -> None:
        rollout_batch.rew[:] = action_batch.dist.log_prob(torch.as_tensor(action_batch.act)).detach().numpy()

    actor.collector._on_step_hook = note
    with policy_within_training_step(policy):
        actor.collector.collect(n_episode=10)
    batch = preprocessed(algorithm, actor.buffer)
    assert len(batch.sequences.starts) == 10
    torch.testing.assert_close(batch.logp_old, torch.as_tensor(batch.rew), rtol=0, atol=1e-12)


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
    torch.testing.assert_close(preprocessed(algorithm, actor.buffer).logp_old, behaviour, rtol=0, atol=1e-12)
    assert update(algorithm, actor.buffer).step_size.mean > 0


def test_the_trunk_serves_in_actors_of_tianshou_that_hand_its_state_through() -> None:
    trunk = RecurrentTrunk(Net(state_shape=OBS_DIM, hidden_sizes=(8,)), make_cell("gru", 8, 8))
    actor = DiscreteActor(preprocess_net=trunk, action_shape=4, softmax_output=False)
    policy = DiscreteActorPolicy(actor=actor, action_space=DISCRETE)
    collected = acting(policy)
    algorithm = make_trpo(policy)
    for _ in range(2):
        behaviour = collected.collect(20)
        torch.testing.assert_close(
            preprocessed(algorithm, collected.buffer).logp_old.float(), behaviour, rtol=0, atol=1e-5
        )
        assert update(algorithm, collected.buffer).step_size.mean > 0


# Derivatives, against networks unrolled one row at a time


class StepByStep(nn.Module):
    """The policy's outputs along a rollout by :func:`step_by_step`; its parameters have the names of the original."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor, first_state: Tensor, begins: np.ndarray) -> Any:
        actor = self.policy.actor
        states = step_by_step(actor.trunk, obs, first_state, begins)
        return actor.head(states[:, : actor.trunk.output_dim])[0]


def rollout_and_reference(cell: str, discrete: bool, seed: int = 3, **settings: Any) -> tuple[Any, Batch, Any, Tensor]:
    """Return algorithm, rollout, theta -> distribution unrolled step by step, and theta; from a second rollout."""
    torch.manual_seed(seed)
    policy = make_sequence_policy(cell, discrete)
    algorithm = make_trpo(policy, make_sequence_critic(cell), **settings)
    actor = acting(policy, n_envs=3, mean_length=4.0)
    actor.collect(7)
    actor.collect(11)
    batch = preprocessed(algorithm, actor.buffer)
    begins = np.roll(batch.done, 1)
    begins[::11] = True
    first = batch.policy.hidden_state.before[torch.as_tensor(begins)]
    module = StepByStep(policy)
    parameters = FlatParameters(module)

    def reference(theta: Tensor) -> Any:
        return policy.dist_fn(functional_call(module, parameters.unflatten(theta), (batch.obs, first, begins)))

    return algorithm, batch, reference, parameters.read()


@pytest.mark.parametrize("micro_batch_size", [None, 9])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_and_fisher_products_are_those_of_the_unrolled_network(
    cell: str, discrete: bool, micro_batch_size: int | None
) -> None:
    algorithm, batch, reference, theta = rollout_and_reference(cell, discrete, micro_batch_size=micro_batch_size)
    moved = theta + 0.05 * torch.randn_like(theta)
    model = problem_of(algorithm, batch).linearise(moved)

    leaf = moved.clone().requires_grad_(True)
    surrogate = (torch.exp(reference(leaf).log_prob(batch.act) - batch.logp_old) * batch.adv).mean()
    (gradient,) = torch.autograd.grad(surrogate, leaf)
    assert gradient.norm() > 1e-3
    torch.testing.assert_close(model.gradient, gradient, rtol=0, atol=1e-12)

    with torch.no_grad():
        fixed = reference(moved)

    def mean_kl_at(theta: Tensor) -> Tensor:
        return kl_divergence(fixed, reference(theta)).mean()

    v = torch.randn_like(moved)
    fisher_v = hvp(mean_kl_at, moved, v)[1]
    assert fisher_v.norm() > 1e-3
    torch.testing.assert_close(model.fisher(v), fisher_v, rtol=0, atol=1e-11)


def test_derivatives_flow_through_the_whole_sequence() -> None:
    """The last row of an episode depends on the weights through its first: cutting rows apart changes the gradient."""
    algorithm, batch, _, theta = rollout_and_reference("gru", True)
    trunk = slice(0, sum(p.numel() for p in algorithm.policy.actor.trunk.parameters()))
    whole = problem_of(algorithm, batch).linearise(theta).gradient[trunk]
    batch.sequences = Sequences.of_rollout(batch.sequences.state, torch.ones(len(batch.act), dtype=torch.bool))
    cut = problem_of(algorithm, batch).linearise(theta).gradient[trunk]
    assert (whole - cut).norm() > 0.05 * whole.norm()


# Parts and samples


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preconditioner": None, "cg_iters": 5, "cg_tolerance": 0.0},
        {"fisher_subsampling": 0.4},
        {"preconditioner": KFAC(samples=20), "ent_coef": 0.01},
    ],
    ids=str,
)
@pytest.mark.parametrize("cell", CELLS)
def test_micro_batches_change_nothing(cell: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    policy = make_sequence_policy(cell, discrete=False)
    actor = acting(policy)
    actor.collect(9)
    actor.collect(20)
    critic = make_sequence_critic(cell)
    whole = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), **settings)
    parts = make_trpo(policy, critic, micro_batch_size=6, **settings)
    for algorithm in (whole, parts):
        assert update(algorithm, actor.buffer).step_size.mean > 0
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_kfacs_factors_of_the_cell_serve_the_solve_better_than_a_diagonal(cell: str) -> None:
    """The share of the optimum g^T x / sqrt(x^T A x) that two products reach, on rollouts of noise."""
    shares = []
    for seed in range(5):
        algorithm, batch, _, theta = rollout_and_reference(cell, False, seed=seed)
        problem = problem_of(algorithm, batch)
        model = problem.linearise(theta)
        a, slices = damped(model.fisher, 0.01), FlatParameters(ActionDistribution(algorithm.policy)).slices
        trace = problem._trace(theta.clone().requires_grad_(True), slice(0, problem.count))
        outside = [call for call in trace.layers if ".cell." not in call.name]
        diagonal = kronecker_factors(dataclasses.replace(trace, layers=outside), fisher_metric(trace.output))
        names = [name for group in model.moments.groups for name in group.names]
        assert sum(".cell." in name for name in names) == 2
        preconditioners = [KFAC().at(m, slices, 0.01) for m in (model.moments, diagonal)]
        shares.append([share(a, model.gradient, preconditioner) for preconditioner in (*preconditioners, None)])
    kronecker, diagonal_only, none = np.mean(shares, axis=0)
    assert kronecker > diagonal_only > none


def share(a: Any, gradient: Tensor, preconditioner: Any) -> float:
    x = conjugate_gradient(a, gradient, max_iterations=2, tolerance=0.0, preconditioner=preconditioner).x
    return float(gradient.dot(x) / x.dot(a(x)).sqrt())


# The contract holds for policies with a memory


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


# The factory


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("cell", CELLS)
def test_factory_builds_policies_that_remember_and_start_alike_everywhere(cell: str, action_space: Any) -> None:
    policy = make_recurrent_policy(OBSERVATIONS, action_space, cell=cell, hidden_size=8)
    obs = torch.randn(5, OBS_DIM)
    first = policy(Batch(obs=obs, info={}))
    again = policy(Batch(obs=obs, info={}), first.state)
    assert torch.equal(first.state.before, torch.zeros_like(first.state.before))
    assert torch.equal(again.state.before, first.state.after)
    assert not torch.allclose(again.state.after, first.state.after)
    mean = first.dist.probs if action_space is DISCRETE else first.dist.mean
    assert (mean - mean.mean(dim=0)).abs().max() < 0.02
    assert policy.observation_space is OBSERVATIONS


def test_factory_passes_the_policys_options_on() -> None:
    policy = make_recurrent_policy(OBSERVATIONS, BOX, initial_std=0.3, deterministic_eval=False)
    result = policy(Batch(obs=torch.zeros(1, OBS_DIM), info={}))
    torch.testing.assert_close(result.dist.stddev, torch.full((1, 2), 0.3))
    assert not policy.deterministic_eval


@pytest.mark.parametrize(
    "make",
    [lambda **o: make_recurrent_policy(OBSERVATIONS, BOX, **o), lambda **o: make_recurrent_critic(OBSERVATIONS, **o)],
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn"}, r"cell must be one of 'gru', 'lstm', got 'rnn'"),
        ({"hidden_size": 0}, r"hidden_size must be an integer >= 1, got 0"),
        ({"encoder_sizes": ()}, r"encoder_sizes must be a sequence of at least one width, got \(\)"),
    ],
)
def test_factories_name_what_is_wrong(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
