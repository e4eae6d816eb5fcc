"""The contract: each promise of the update, tested on rollouts without environments."""

from __future__ import annotations

import copy
import math
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import examples
from rollouts import (
    ACT_DIM,
    OBS_DIM,
    Actor,
    Mlp,
    assert_finite,
    gaussian,
    make_actor_policy,
    make_rollout,
    make_trpo,
    mean_kl,
    output_rounding,
    parameters_of,
    same,
    update,
)
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, ReplayBuffer
from torch import nn
from torch.distributions import Independent, Normal

from trpo_ts.solver.outcomes import StepOutcome

# 1. Trust region


@examples(300, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**20),
    discrete=st.booleans(),
    hidden=st.lists(st.integers(1, 24), min_size=0, max_size=2),
    activation=st.sampled_from([nn.Tanh, nn.ReLU, nn.ELU]),
    log_std=st.floats(-4.0, 2.0),
    weight_scale=st.floats(0.01, 20.0),
    n_envs=st.integers(1, 5),
    length=st.integers(1, 24),
    batch_size=st.one_of(st.none(), st.integers(1, 40)),
    repeat=st.integers(1, 4),
    max_kl=st.floats(1e-5, 1.0),
    damping=st.sampled_from([0.0, 1e-3, 0.1]),
    shared=st.booleans(),
    reward_scale=st.sampled_from([1e-6, 1.0, 1e6]),
    options=st.fixed_dictionaries(
        {
            "optim_critic_iters": st.integers(0, 3),
            "advantage_normalization": st.booleans(),
            "return_scaling": st.booleans(),
            "ent_coef": st.sampled_from([0.0, 0.05]),
            "fisher_subsampling": st.sampled_from([0.1, 1.0]),
            "micro_batch_size": st.sampled_from([None, 7]),
            "cg_iters": st.integers(1, 12),
        }
    ),
)
def test_kl_over_the_rollout_never_exceeds_max_kl(
    seed,
    discrete,
    hidden,
    activation,
    log_std,
    weight_scale,
    n_envs,
    length,
    batch_size,
    repeat,
    max_kl,
    damping,
    shared,
    reward_scale,
    options,
):
    torch.manual_seed(seed)
    policy = make_actor_policy(discrete, tuple(hidden), log_std=log_std, activation=activation)
    with torch.no_grad():
        for p in policy.actor.body.parameters():
            p.mul_(weight_scale)
    body = policy.actor.body
    critic = nn.Sequential(body, nn.Linear(4 if discrete else ACT_DIM, 1)) if shared else None
    buffer = make_rollout(policy, n_envs, length, seed, reward_scale)
    algorithm = make_trpo(
        policy, critic, max_kl=max_kl, cg_damping=damping, optim=AdamOptimizerFactory(lr=0.1), **options
    )
    before = copy.deepcopy(policy)
    stats = update(algorithm, buffer, batch_size, repeat)
    achieved = mean_kl(before, policy, buffer, options.get("micro_batch_size"))
    # A network rounds differently for another memory layout of its weights.
    assert achieved <= max_kl * (1 + 1e-5) + 1e-9
    # The divergence is half the square of the outputs' changes: rounding counts twice, times its root.
    rounding = output_rounding(policy, buffer)
    tolerance = 1e-6 + 1e-2 * achieved + 2 * rounding * math.sqrt(max(achieved, 0.0)) + rounding**2
    assert abs(stats.kl.mean - achieved) <= tolerance
    assert (stats.kl.mean == 0.0) == same(parameters_of(before), policy) or stats.kl.mean < 1e-12
    assert stats.surrogate_improvement >= 0.0
    assert_finite(stats)


@pytest.mark.parametrize("batch_size", [None, 8, 64])
@pytest.mark.parametrize("repeat", [1, 3, 10])
def test_batch_size_and_repeat_share_one_kl_budget(batch_size, repeat):
    torch.manual_seed(1)
    policy = make_actor_policy(hidden=(16, 16))
    buffer = make_rollout(policy, 8, 64)
    before = copy.deepcopy(policy)
    stats = update(make_trpo(policy, max_kl=0.01), buffer, batch_size, repeat)
    assert 0.001 < mean_kl(before, policy, buffer) <= 0.01
    assert stats.kl.mean == pytest.approx(mean_kl(before, policy, buffer), rel=1e-4)


def test_policy_step_does_not_depend_on_batch_size():
    torch.manual_seed(2)
    policy, critic = make_actor_policy(), Mlp((OBS_DIM, 8, 1))
    buffer = make_rollout(policy)
    results = []
    for batch_size in (None, 5):
        algorithm = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic))
        update(algorithm, buffer, batch_size)
        results.append(parameters_of(algorithm.policy))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_repeated_steps_improve_the_surrogate_further():
    torch.manual_seed(3)
    policy = make_actor_policy(dtype=torch.float64, hidden=(16,))
    critic = Mlp((OBS_DIM, 8, 1)).double()
    buffer = make_rollout(policy, 8, 64)
    gains = []
    for repeat in (1, 5):
        algorithm = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), max_kl=0.05, cg_damping=0.1, cg_iters=50)
        gains.append(update(algorithm, buffer, None, repeat).surrogate_improvement)
    assert gains[1] > gains[0]


# 2. The critic never moves the policy


def test_shared_trunk_is_moved_by_the_policy_step_only():
    torch.manual_seed(4)
    policy = make_actor_policy()
    critic = nn.Sequential(policy.actor.body, nn.Linear(ACT_DIM, 1))
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy, critic, max_kl=1e-3, optim=AdamOptimizerFactory(lr=1.0), optim_critic_iters=20)
    before = copy.deepcopy(policy)
    head = parameters_of(critic[1])
    stats = update(algorithm, buffer)
    assert 0.0 < mean_kl(before, policy, buffer) <= 1e-3
    assert stats.kl.mean == pytest.approx(mean_kl(before, policy, buffer), rel=1e-3)
    assert not same(head, critic[1])
    assert all(p.grad is None for p in policy.parameters())


def test_critic_without_own_parameters_is_refused():
    policy = make_actor_policy()
    with pytest.raises(ValueError, match=r"critic must have parameters of its own.*value head"):
        make_trpo(policy, policy.actor.body)


# 3. Non-finite numbers


def one_transition(policy):
    return make_rollout(policy, 1, 1)


def no_reward(policy):
    return make_rollout(policy, reward_scale=0.0)


class ConstantCritic(nn.Module):
    """Values that make every temporal-difference error zero when rewards are zero."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, obs):
        return self.value.expand(len(obs), 1)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rollout", [one_transition, no_reward])
@pytest.mark.parametrize("ent_coef", [0.0, 0.1])
def test_advantages_without_information_leave_the_policy_bitwise_unchanged(normalise, rollout, ent_coef):
    torch.manual_seed(5)
    policy = make_actor_policy()
    critic = ConstantCritic()
    before = parameters_of(policy)
    algorithm = make_trpo(policy, critic, advantage_normalization=normalise, ent_coef=ent_coef)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stats = update(algorithm, rollout(policy))
    assert same(before, policy)
    assert stats.outcome == StepOutcome.CONSTANT_ADVANTAGES
    assert stats.accepted == 0.0
    assert stats.kl.mean == stats.step_size.mean == stats.step_fraction == 0.0
    assert_finite(stats)


def test_critic_still_fits_when_the_policy_step_is_skipped():
    torch.manual_seed(6)
    policy = make_actor_policy()
    algorithm = make_trpo(policy)
    before = parameters_of(algorithm.critic)
    stats = update(algorithm, one_transition(policy))
    assert stats.outcome == StepOutcome.CONSTANT_ADVANTAGES
    assert not same(before, algorithm.critic)


@pytest.mark.parametrize("reward_scale", [1e25, 1e38, 1e300])
def test_overflowing_returns_do_not_raise_or_move_anything_to_nan(reward_scale):
    torch.manual_seed(7)
    policy = make_actor_policy()
    buffer = make_rollout(policy, reward_scale=reward_scale)
    algorithm = make_trpo(policy, return_scaling=False)
    stats = update(algorithm, buffer, 16, 2)
    assert all(p.isfinite().all() for p in algorithm.parameters())
    assert_finite(stats)


def test_critic_that_has_diverged_leaves_the_policy_alone():
    policy = make_actor_policy()
    algorithm = make_trpo(policy, return_scaling=True)
    with torch.no_grad():
        next(algorithm.critic.parameters()).fill_(math.nan)
    before, statistics = parameters_of(policy), (algorithm.ret_rms.mean, algorithm.ret_rms.var)
    stats = update(algorithm, make_rollout(policy))
    assert same(before, policy)
    assert stats.outcome == StepOutcome.NON_FINITE_GRADIENT
    assert (algorithm.ret_rms.mean, algorithm.ret_rms.var) == statistics
    assert_finite(stats)


@pytest.mark.parametrize("field", ["obs", "obs_next", "act", "rew"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_data_is_an_error_before_anything_changes(field, value):
    torch.manual_seed(8)
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    array = buffer._meta[field]
    array[np.unravel_index(5, array.shape)] = value
    algorithm = make_trpo(policy, return_scaling=True)
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(ValueError, match=rf"batch\.{field} must be finite, got .* in row \d+ \(1 of 64 rows\)"):
        update(algorithm, buffer)
    torch.testing.assert_close(algorithm.state_dict(), before, rtol=0, atol=0)
    # and the algorithm works on once the data are sound
    assert update(algorithm, make_rollout(policy)).accepted == 1.0


def test_exploding_candidates_are_rejected_quietly():
    """A network that is finite at the start and not at any candidate: exp overflows."""

    class Explosive(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, obs, state=None, info=None):
            x = torch.as_tensor(obs, dtype=torch.float32)[:, :ACT_DIM]
            # 0 at the start with slope 1, and inf - inf a little further
            y = self.weight * x + torch.relu(self.weight.abs() - 1e-12) * float("inf")
            return (torch.where(self.weight == 0, self.weight * x, y), torch.ones_like(x)), state

    torch.manual_seed(9)
    policy = make_actor_policy(actor=Explosive())
    buffer = make_rollout(policy)
    before = parameters_of(policy)
    stats = update(make_trpo(policy), buffer)
    assert same(before, policy)
    assert stats.outcome == StepOutcome.NON_FINITE_CANDIDATE
    assert stats.kl.mean == 0.0
    assert_finite(stats)


# 4. Exactness


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("micro_batch_size", [1, 7, 64, 1000])
def test_micro_batches_change_nothing(discrete, micro_batch_size):
    torch.manual_seed(10)
    policy = make_actor_policy(discrete, dtype=torch.float64)
    critic = Mlp((OBS_DIM, 8, 1)).double()
    buffer = make_rollout(policy)
    results = []
    for size in (None, micro_batch_size):
        algorithm = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), micro_batch_size=size, ent_coef=0.01)
        update(algorithm, buffer, None, 2)
        results.append(parameters_of(algorithm))
    for full, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, full, rtol=1e-10, atol=1e-10)


def test_update_is_deterministic():
    torch.manual_seed(11)
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    algorithms = [make_trpo(copy.deepcopy(policy), copy.deepcopy(Mlp((OBS_DIM, 1)))) for _ in range(2)]
    algorithms[1].critic.load_state_dict(algorithms[0].critic.state_dict())
    for algorithm in algorithms:
        update(algorithm, buffer, None, 2)
    assert same(parameters_of(algorithms[0]), algorithms[1])


# 5. No side effects


def test_no_random_number_is_drawn():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    update(algorithm, buffer, None, 3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert states[2] == random.getstate()


def test_policy_with_its_own_forward_pass_draws_nothing_either():
    class Own(ProbabilisticActorPolicy):
        def forward(self, batch, state=None):
            result = super().forward(batch, state)
            result.dist = Independent(Normal(result.dist.base_dist.loc + 1.0, result.dist.base_dist.scale), 1)
            return result

    torch.manual_seed(12)
    template = make_actor_policy()
    policy = Own(actor=template.actor, dist_fn=gaussian, action_space=template.action_space, action_scaling=False)
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy)
    state = torch.get_rng_state()
    stats = update(algorithm, buffer)
    assert torch.equal(state, torch.get_rng_state())
    assert stats.accepted == 1.0
    batch, _ = buffer.sample(0)
    with torch.no_grad():
        logp = policy(Batch(obs=batch.obs, info={})).dist.log_prob(torch.as_tensor(batch.act))
    assert logp.isfinite().all()


class ModeRecorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(self.training)
        return x


def test_actor_runs_in_evaluation_mode_and_every_mode_is_restored():
    torch.manual_seed(13)
    recorder = ModeRecorder()
    body = nn.Sequential(Mlp((OBS_DIM, 8, 8)), recorder, nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, ACT_DIM))
    policy = make_actor_policy(actor=Actor(body, -0.5))
    policy.eval()
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy)
    algorithm.train()
    body[3].eval()  # one submodule frozen by hand
    recorder.seen.clear()
    before = copy.deepcopy(body[3].running_mean)
    stats = update(algorithm, buffer)
    assert stats.accepted == 1.0
    assert recorder.seen
    assert not any(recorder.seen)
    assert algorithm.training
    assert body[2].training
    assert not body[3].training
    assert torch.equal(before, body[3].running_mean)


def test_frozen_and_unused_parameters_stay_and_are_no_error():
    torch.manual_seed(14)
    policy = make_actor_policy(hidden=(8, 8))
    policy.actor.unused = nn.Linear(3, 3)
    frozen = policy.actor.body.layers[0]
    frozen.requires_grad_(False)
    before, unused = parameters_of(frozen), parameters_of(policy.actor.unused)
    stats = update(make_trpo(policy), make_rollout(policy))
    assert stats.accepted == 1.0
    assert same(before, frozen)
    assert same(unused, policy.actor.unused)
    assert all(not p.requires_grad for p in frozen.parameters())


def test_policy_without_trainable_parameters_is_refused():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    algorithm = make_trpo(policy)
    policy.requires_grad_(False)
    with pytest.raises(ValueError, match="at least one trainable parameter"):
        update(algorithm, buffer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    torch.manual_seed(15)
    policy = make_actor_policy(dtype=dtype)
    algorithm = make_trpo(policy)
    update(algorithm, make_rollout(policy))
    assert {p.dtype for p in algorithm.parameters()} == {dtype}


def test_buffer_is_left_as_it_was():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    before = copy.deepcopy(buffer._meta)
    update(make_trpo(policy), buffer)
    for key in before.get_keys():
        if key != "info":
            assert np.array_equal(before[key], buffer._meta[key]), key


def test_plain_replay_buffer_and_a_second_update_work():
    torch.manual_seed(16)
    policy = make_actor_policy(discrete=True)
    source = make_rollout(policy, 1, 30)
    batch, _ = source.sample(0)
    buffer = ReplayBuffer(30)
    for i in range(30):
        buffer.add(
            Batch({k: batch[k][i] for k in ("obs", "act", "rew", "terminated", "truncated", "obs_next", "info")})
        )
    algorithm = make_trpo(policy)
    assert update(algorithm, buffer).accepted == 1.0
    assert_finite(update(algorithm, buffer))
