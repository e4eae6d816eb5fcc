"""Whatever is raised in the middle of an update, the learner is as it was; and what Tianshou trains is trained."""

from __future__ import annotations

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
from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
from torch import Tensor, nn

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.critics.fit import CriticTask
from trpo_ts.transaction import undone_on_error


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
