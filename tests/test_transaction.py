"""Whatever is raised in the middle of an update, the learner is as it was; and what Tianshou trains is trained."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from bandit import (
    Actor,
    Critic,
    as_float,
    assert_same,
    everything,
    make_algorithm,
    observations,
    rollout,
    update,
    update_and_measure,
)
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_trpo
from sequenced import acting, make_sequence_critic, make_sequence_policy
from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
from torch import Tensor, nn

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.critics.fit import CriticTask
from trpo_ts.transaction import undone_on_error

pytestmark = pytest.mark.usefixtures("seeded")


@dataclass
class FailingFit:
    """Moves the critic and its optimiser, and raises."""

    error: BaseException

    def fit(self, task: CriticTask) -> list[float]:
        loss = task.critic(task.obs[slice(0, 8)]).square().sum()
        task.optimizer.zero_grad()
        loss.backward()
        task.optimizer.step()
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("optim", [AdamOptimizerFactory(lr=1e-2), RMSpropOptimizerFactory(lr=1e-3, momentum=0.9)])
def test_a_fit_that_raises_undoes_the_whole_update(error: BaseException, optim: Any):
    torch.manual_seed(0)
    algorithm = make_algorithm(optim=optim, return_scaling=True)
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)  # there are moments and statistics to put back
    algorithm.critic_fit = FailingFit(error)
    before = everything(algorithm)
    with pytest.raises(type(error)):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)
    algorithm.critic_fit = None
    assert update(algorithm, buffer).accepted


def test_contexts_within_each_other_undo_once():
    algorithm = make_algorithm()
    before = everything(algorithm)

    def nested() -> None:
        with undone_on_error(algorithm):
            with undone_on_error(algorithm), torch.no_grad():
                next(algorithm.parameters()).add_(1.0)
            raise ValueError("outer")

    with pytest.raises(ValueError, match="outer"):
        nested()
    assert_same(everything(algorithm), before)


class Autocast(Actor):
    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mean = self.net(as_float(obs))
        mean = mean.float()
        return (mean, self.log_std.exp().expand_as(mean)), state


class AutocastCritic(Critic):
    def forward(self, obs: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(obs).float()


class Pair(nn.Module):
    """A layer with a hook that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 1)
        self.first.register_forward_hook(lambda module, args, output: (output, output))
        self.log_std = nn.Parameter(torch.full((1,), -0.5))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        hidden, _ = self.first(as_float(obs))
        mean = self.last(torch.tanh(hidden))
        return (mean, self.log_std.exp().expand_as(mean)), state


@pytest.mark.parametrize(
    ("actor", "critic"),
    [(Autocast, Critic), (Actor, AutocastCritic), (Autocast, AutocastCritic), (Pair, Critic)],
)
@pytest.mark.parametrize("fit", [None, GaussNewtonFit()], ids=repr)
def test_networks_of_other_precisions_and_with_hooks_are_trained(actor: type, critic: type, fit: Any):
    torch.manual_seed(0)
    stats, true = update_and_measure(make_algorithm(actor(), critic(), critic_fit=fit), observations())
    assert stats.accepted
    assert 0.002 < true <= 0.0201
    assert true == pytest.approx(stats.kl.mean, rel=0.02)


@pytest.mark.parametrize("damping", [1e300, 1e39])
def test_damping_outside_of_the_policys_dtype_is_refused(damping: float):
    algorithm = make_algorithm(cg_damping=damping)
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"cg_damping must be a number in \[0, 3\.40282e\+38\], got"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


def test_the_states_that_a_critic_with_a_memory_keeps_are_put_back_too():
    torch.manual_seed(0)
    policy, critic = make_sequence_policy("gru", discrete=True), make_sequence_critic("gru")
    algorithm = make_trpo(policy, critic)
    actor = acting(policy, mean_length=1e9)
    actor.collect(8)
    update(algorithm, actor.buffer)
    kept = copy.deepcopy(critic.get_extra_state())
    algorithm.critic_fit = FailingFit(RuntimeError("no more memory"))
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


class Running(Critic):
    """Assigns a new tensor to its running deviation in training mode."""

    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.ones(2))

    def forward(self, obs: Any) -> Tensor:
        if self.training:
            self.deviation = 0.9 * self.deviation + 0.1 * as_float(obs).abs().mean(0)
        return super().forward(as_float(obs) / self.deviation)


def test_buffers_that_are_assigned_to_are_put_back():
    algorithm = make_algorithm(critic=Running())
    buffer = rollout(algorithm.policy, observations())
    algorithm.critic_fit = FailingFit(RuntimeError("broken"))
    before = everything(algorithm)
    with pytest.raises(RuntimeError, match="broken"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


def test_scripted_networks_are_put_back():
    critic = Critic()
    critic.hidden = torch.jit.script(nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16)))
    algorithm = make_algorithm(critic=critic)
    buffer = rollout(algorithm.policy, observations())
    algorithm.critic_fit = FailingFit(RuntimeError("broken"))
    before = everything(algorithm)
    with pytest.raises(RuntimeError, match="broken"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


@pytest.mark.parametrize("fit", [None, GaussNewtonFit()], ids=repr)
def test_an_update_in_the_callers_inference_mode_is_that_outside_of_it(fit: Any):
    ends = []
    for mode in (False, True):
        torch.manual_seed(0)
        algorithm = make_algorithm(critic_fit=fit)
        buffer = rollout(algorithm.policy, observations())
        with torch.inference_mode(mode):
            assert update(algorithm, buffer).accepted
            assert torch.is_inference_mode_enabled() is mode
        ends.append(everything(algorithm))
    assert_same(*ends)


def test_an_update_that_is_undone_in_the_callers_inference_mode_leaves_moments_that_can_be_trained():
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    algorithm.critic_fit = FailingFit(RuntimeError("broken"))
    before = everything(algorithm)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="broken"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)
    algorithm.critic_fit = None
    assert update(algorithm, buffer) is not None
