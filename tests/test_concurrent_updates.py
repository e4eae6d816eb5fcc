"""Updates in several threads that would move the same parameters."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from bandit import Actor, Critic, assert_same, everything, make_algorithm, observations, rollout, update
from torch import nn

from trpo_ts import TRPO
from trpo_ts.critics.fit import CriticTask

pytestmark = pytest.mark.usefixtures("seeded")


class Waiting:
    """A fit that says that it has begun, and waits."""

    def __init__(self) -> None:
        self.begun, self.leave = threading.Event(), threading.Event()

    def fit(self, task: CriticTask) -> list[float]:
        self.begun.set()
        assert self.leave.wait(60)
        return [0.0]


def updated_within(first: TRPO, second: TRPO) -> None:
    """Update the second algorithm in this thread while the first one is updated in another."""
    fit = first.critic_fit = Waiting()
    first_buffer, second_buffer = (rollout(each.policy, observations()) for each in (first, second))
    failed: list[BaseException] = []

    def work() -> None:
        try:
            assert update(first, first_buffer).accepted
        except BaseException as error:
            failed.append(error)
            fit.begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert fit.begun.wait(60)
    try:
        before = everything(second)
        modes = [module.training for module in second.modules()]
        try:
            update(second, second_buffer)
        except ValueError:
            assert_same(everything(second), before)
            assert [module.training for module in second.modules()] == modes
            raise
    finally:
        fit.leave.set()
        thread.join()
        assert not failed


def test_a_policy_in_two_algorithms_is_refused_and_free_again_afterwards():
    first = make_algorithm(Actor(), Critic())
    second = make_algorithm(first.policy.actor, Critic())
    words = r"one update at a time, got policy\.actor\.log_std, policy\.actor\.net\.0\.weight, .* in another thread"
    with pytest.raises(ValueError, match=words):
        updated_within(first, second)
    first.critic_fit = None
    for algorithm in (first, second):
        assert update(algorithm, rollout(algorithm.policy, observations())).accepted


def test_a_critic_in_two_algorithms_is_refused():
    critic = Critic()
    with pytest.raises(ValueError, match=r"got critic\.hidden\.weight, "):
        updated_within(make_algorithm(Actor(), critic), make_algorithm(Actor(), critic))


def test_one_algorithm_in_two_threads_is_refused():
    algorithm = make_algorithm()
    with pytest.raises(ValueError, match="in one update at a time"):
        updated_within(algorithm, algorithm)


class Pretrained(Actor):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        return super().forward(self.body(torch.as_tensor(obs)).detach().numpy(), state, info)


def test_frozen_layers_may_be_anybodys():
    body = nn.Linear(2, 2).requires_grad_(False)
    updated_within(make_algorithm(Pretrained(body)), make_algorithm(Pretrained(body)))


class Evaluating(Actor):
    """Says when another thread evaluates it, and waits: its parameters are then replaced by other tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.leave = threading.Event(), threading.Event()
        self.left_out = 0

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        if threading.current_thread() is not threading.main_thread():
            self.left_out -= 1
            if self.left_out < 0 and not isinstance(self.log_std, nn.Parameter):
                self.begun.set()
                assert self.leave.wait(60)
        return super().forward(obs, state, info)


@pytest.mark.parametrize("passes", [0, 3, 12])
def test_a_policy_that_another_thread_evaluates_is_refused(passes: int):
    actor = Evaluating()
    actor.left_out = passes
    algorithm, other = make_algorithm(actor), make_algorithm(actor)
    buffers = [rollout(each.policy, observations()) for each in (algorithm, other)]
    thread = threading.Thread(target=update, args=(algorithm, buffers[0]))
    thread.start()
    assert actor.begun.wait(60)
    try:
        with pytest.raises(ValueError, match="in one update at a time"):
            update(other, buffers[1])
    finally:
        actor.leave.set()
        thread.join()
    assert update(other, rollout(other.policy, observations())).accepted


def test_copies_are_updated_at_once():
    algorithm = make_algorithm()
    updated_within(algorithm, copy.deepcopy(algorithm))


def test_an_update_that_fails_gives_its_parameters_back():
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())

    class Failing:
        def fit(self, task: CriticTask) -> list[float]:
            raise RuntimeError("broken")

    algorithm.critic_fit = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        update(algorithm, buffer)
    algorithm.critic_fit = None
    assert update(algorithm, buffer).accepted


def test_an_update_within_an_update_of_the_same_policy_is_refused():
    inner = make_algorithm()
    buffer = rollout(inner.policy, observations())

    class Nested:
        def fit(self, task: CriticTask) -> list[float]:
            update(inner, buffer)
            return [0.0]

    outer = make_algorithm(inner.policy.actor, critic_fit=Nested())
    with pytest.raises(ValueError, match="in one update at a time"):
        update(outer, buffer)
