"""An update that raises, at any place, leaves the learner as it was."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from sequenced import acting, make_sequence_critic, make_sequence_policy
from torch import nn

from trpo_ts import TRPO
from trpo_ts.transaction import undone_on_error


class Failing:
    """A fit that moves the critic and its optimiser's moments, and then fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fit(self, task: Any) -> list[float]:
        loss = task.critic(task.obs[0:8]).square().mean()
        loss.backward(inputs=task.own)
        task.optimizer.step()
        raise self.error


def state_of(algorithm: TRPO) -> dict[str, Any]:
    return copy.deepcopy(algorithm.state_dict())


@pytest.mark.parametrize("error", [RuntimeError("no more memory"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("updates", [0, 2])
def test_everything_is_put_back_after_an_error_in_the_critics_fit(error: BaseException, updates: int):
    torch.manual_seed(0)
    policy = make_actor_policy()
    algorithm = make_trpo(policy, return_scaling=True)
    for seed in range(updates):
        update(algorithm, make_rollout(policy, seed=seed))
    algorithm.critic_fit = Failing(error)
    before = state_of(algorithm)
    with pytest.raises(type(error)):
        update(algorithm, make_rollout(policy, seed=9))
    torch.testing.assert_close(state_of(algorithm), before, rtol=0, atol=0)
    algorithm.critic_fit = None
    twin = copy.deepcopy(algorithm)
    buffer = make_rollout(policy, seed=10)
    for learner in (algorithm, twin):
        assert update(learner, buffer).accepted == 1.0
    assert same(parameters_of(algorithm), twin)


def test_the_states_that_a_critic_with_a_memory_keeps_are_put_back_too():
    torch.manual_seed(0)
    policy, critic = make_sequence_policy("gru", discrete=True), make_sequence_critic("gru")
    algorithm = make_trpo(policy, critic)
    actor = acting(policy, mean_length=1e9)
    actor.collect(8)
    update(algorithm, actor.buffer)
    kept = copy.deepcopy(critic.get_extra_state())
    algorithm.critic_fit = Failing(RuntimeError("no more memory"))
    actor.collect(8)
    with pytest.raises(RuntimeError, match="no more memory"):
        update(algorithm, actor.buffer)
    torch.testing.assert_close(critic.get_extra_state(), kept, rtol=0, atol=0)


def test_buffers_of_batch_norm_are_put_back():
    critic = nn.Sequential(Mlp((OBS_DIM, 8)), nn.BatchNorm1d(8), nn.Linear(8, 1))
    algorithm = make_trpo(make_actor_policy(), critic)
    before = copy.deepcopy(critic.state_dict())
    with contextlib.suppress(ZeroDivisionError), undone_on_error(algorithm):
        critic(torch.randn(16, OBS_DIM))
        raise ZeroDivisionError
    torch.testing.assert_close(critic.state_dict(), before, rtol=0, atol=0)


def test_within_another_it_leaves_putting_back_to_the_outer_one():
    algorithm = make_trpo(make_actor_policy())
    weight = next(algorithm.critic.parameters())
    before = weight.detach().clone()
    with undone_on_error(algorithm), torch.no_grad():
        weight.add_(1.0)
        with contextlib.suppress(ZeroDivisionError), undone_on_error(algorithm):
            weight.add_(1.0)
            raise ZeroDivisionError
        torch.testing.assert_close(weight, before + 2.0)
    torch.testing.assert_close(weight, before + 2.0)  # nothing was raised through it
