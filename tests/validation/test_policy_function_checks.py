"""Policies that are no function of their parameters and observations, or that something else moves, are refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bandit import (
    ENVS,
    STEPS,
    Actor,
    Critic,
    acted,
    as_float,
    assert_same,
    everything,
    make_algorithm,
    observations,
    rollout,
    update,
    update_and_measure,
)
from gymnasium.spaces import Discrete
from once_differentiable import OnceDifferentiable
from tianshou.data import Batch, VectorReplayBuffer
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.utils.checkpoint import checkpoint

from trpo_ts import TRPO
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit

pytestmark = pytest.mark.usefixtures("seeded")


def refused(algorithm: TRPO, words: str, *, shuffles: bool = False) -> None:
    """Assert that an update is refused, changes nothing, and draws no numbers but for a critic's fit that shuffles."""
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    generators, pythons = (torch.get_rng_state(), np.random.get_state()), random.getstate()  # noqa: NPY002
    with pytest.raises(ValueError, match=words):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)
    assert shuffles or torch.equal(torch.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1][1])  # noqa: NPY002
    assert random.getstate() == pythons


class Counting(Actor):
    """Keeps a count that moves its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        self.count += 1
        (mean, std), state = super().forward(obs, state, info)
        return (mean + 0.1 * self.count, std), state


NO_FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    "dropout that is always on": lambda: Actor(lambda obs: F.dropout(as_float(obs), 0.5, training=True)),
    "noise of torch": lambda: Actor(lambda obs: as_float(obs) + torch.randn(len(obs), 2)),
    "noise of NumPy": lambda: Actor(lambda obs: as_float(obs + np.random.normal(size=obs.shape))),  # noqa: NPY002
    "noise of Python": lambda: Actor(lambda obs: as_float(obs) + random.random()),
    "a count": Counting,
}


@pytest.mark.parametrize("name", NO_FUNCTIONS)
def test_a_policy_that_gives_two_results_is_refused(name: str):
    refused(make_algorithm(NO_FUNCTIONS[name]()), "policy must be a function of its parameters and observations")


def test_random_numbers_that_change_nothing_are_put_back():
    draw: Any = lambda obs: (torch.rand(3), np.random.rand(), random.random(), as_float(obs))[3]  # noqa: E731, NPY002
    algorithm = make_algorithm(Actor(draw))
    buffer = rollout(algorithm.policy, observations())
    generators, pythons = (torch.get_rng_state(), np.random.get_state()), random.getstate()  # noqa: NPY002
    assert update(algorithm, buffer).accepted
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1][1])  # noqa: NPY002
    assert np.random.get_state()[2] == generators[1][2]  # noqa: NPY002
    assert random.getstate() == pythons


def test_draws_from_pythons_generator_alone_are_put_back_too():
    algorithm = make_algorithm(Actor(lambda obs: (random.random(), as_float(obs))[1]))
    buffer = rollout(algorithm.policy, observations())
    pythons = random.getstate()
    assert update(algorithm, buffer).accepted
    assert update(algorithm, buffer) is not None
    assert random.getstate() == pythons


class Cached(Actor):
    """Acts with a copy of a parameter that was made once."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.copies = {"scale": 3.0}

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        (mean, std), state = super().forward(obs, state, info)
        own = isinstance(self.scale, nn.Parameter)
        return (mean * (self.copies["scale"] if own else self.scale), std), state


def test_a_policy_that_acts_otherwise_than_it_is_evaluated_is_refused():
    refused(make_algorithm(Cached()), "another result when its parameters were replaced")


class UsesCritic(Actor):
    """Reads its observations through a critic's layer that it does not own."""

    def __init__(self, critic: Critic, detached: bool) -> None:
        super().__init__()
        self.__dict__["critic"] = critic
        self.detached = detached

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        features: Tensor = torch.tanh(self.__dict__["critic"].hidden(as_float(obs)))[:, :2]
        return super().forward(features.detach() if self.detached else features, state, info)


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("fit", [None, MinibatchFit(1, 64), GaussNewtonFit(), LBFGSFit(iterations=2)], ids=repr)
def test_a_policy_that_the_critics_fit_would_move_is_refused(detached: bool, fit: Any):
    critic = Critic()
    algorithm = make_algorithm(UsesCritic(critic, detached), critic, critic_fit=fit)
    refused(algorithm, "critic's fit must not move the policy", shuffles=isinstance(fit, MinibatchFit))


def test_a_policy_that_uses_a_critic_nobody_fits_is_trained():
    critic = Critic()
    algorithm = make_algorithm(UsesCritic(critic, detached=False), critic, optim_critic_iters=0)
    stats, true = update_and_measure(algorithm, observations())
    assert stats.accepted
    assert true == pytest.approx(stats.kl.mean, rel=1e-3)


class Checkpointed(Actor):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        x = as_float(obs)
        mean = checkpoint(self.net, x.requires_grad_(self.reentrant), use_reentrant=self.reentrant)
        return (mean, self.log_std.exp().expand_as(mean)), state


def test_checkpointing_without_reentry_is_exact():
    stats, true = update_and_measure(make_algorithm(Checkpointed(reentrant=False)), observations())
    assert stats.accepted
    assert true == pytest.approx(stats.kl.mean, rel=1e-3)


def test_checkpointing_with_reentry_is_refused():
    """Its gradients would be missing without a word: only the standard deviation would learn."""
    algorithm = make_algorithm(Checkpointed(reentrant=True))
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    with pytest.raises(ValueError, match="set use_reentrant=False"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


class NotDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("only .backward() is supported")


@pytest.mark.parametrize("size", [3, 16, 64])
def test_the_checks_take_no_more_rows_than_a_micro_batch(size: int):
    actor = Actor()
    algorithm = make_algorithm(actor, micro_batch_size=size)
    buffer = rollout(algorithm.policy, observations())
    seen: list[int] = []
    actor.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    assert update(algorithm, buffer).accepted
    assert max(seen) == size


class OwnOperation(Actor):
    """Passes its mean through an operation."""

    def __init__(self, operation: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        (mean, std), state = super().forward(obs, state, info)
        return (self.operation.apply(mean), std), state


def test_an_operation_without_a_derivative_is_refused_with_its_reason():
    reason = r"must be differentiable by torch\.autograd\.grad, got: only \.backward\(\) is supported"
    refused(make_algorithm(OwnOperation(NotDifferentiable)), reason)


def test_an_operation_without_a_second_derivative_is_no_error():
    stats, true = update_and_measure(make_algorithm(OwnOperation(OnceDifferentiable)), observations())
    assert stats.accepted
    assert true == pytest.approx(stats.kl.mean, rel=1e-3)


def test_what_is_no_distribution_is_named():
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    algorithm.policy.dist_fn = lambda loc_scale: loc_scale[0]
    with pytest.raises(ValueError, match=r"policy must return a torch\.distributions\.Distribution, got Tensor"):
        update(algorithm, buffer)


class Noisy(Actor):
    """Draws noise for its logits; some rows allow a single action."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        logits = self.net(as_float(obs))
        logits = logits + torch.randn_like(logits)
        single = as_float(obs)[:, :1] > 0.5
        masked = torch.where(single & (torch.arange(3) > 0), -torch.inf, logits)
        return masked, state


@pytest.mark.parametrize("size", [None, 1, 5])
def test_first_rows_that_allow_one_action_do_not_hide_random_numbers(size: int | None):
    """Their probability is 1 whatever is drawn."""
    obs = observations()
    obs[:, :4, 0], obs[:, 4:, 0] = 1.0, 0.0  # the buffer holds environment after environment
    algorithm = make_algorithm(Noisy(), dist_fn=lambda logits: Categorical(logits=logits), micro_batch_size=size)
    algorithm.policy.action_space = Discrete(3)
    buffer = VectorReplayBuffer(STEPS * ENVS, ENVS)
    for t in range(STEPS):
        act = acted(algorithm.policy, obs[t]).sample().numpy()
        ends = np.zeros(ENVS, bool)
        step = {"rew": act.astype(float), "terminated": ends, "truncated": ends, "done": ends, "info": Batch()}
        buffer.add(Batch(obs=obs[t], act=act, obs_next=obs[t + 1], **step), buffer_ids=np.arange(ENVS))
    with pytest.raises(ValueError, match="policy must be a function of its parameters and observations"):
        update(algorithm, buffer)


class MovingFit:
    """Moves a parameter of the policy."""

    def __init__(self, policy: nn.Module) -> None:
        self.policy = policy

    def fit(self, task: Any) -> list[float]:
        with torch.no_grad():
            self.policy.actor.log_std.add_(0.1)
        return [0.0]


def test_a_fit_that_moves_parameters_of_the_policy_is_refused():
    algorithm = make_algorithm()
    algorithm.critic_fit = MovingFit(algorithm.policy)
    refused(algorithm, "critic's fit must not move the policy, got other parameters of the policy after it")
