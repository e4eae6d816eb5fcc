"""Optimisers whose step evaluates the loss itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.algorithm.optim import AdamOptimizerFactory, OptimizerFactory, TorchOptimizerFactory
from torch import nn

from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit
from trpo_ts.critics.optimizer_fit import OptimizerFit
from trpo_ts.validation.optimizer_checks import check_steps

MESSAGE = r"^optim must make an optimiser whose step\(\) needs no arguments, got LBFGS, .* critic_fit=.*LBFGSFit\(\)"


def lbfgs() -> OptimizerFactory:
    return TorchOptimizerFactory(torch.optim.LBFGS, lr=1.0)


@pytest.mark.parametrize("fit", [None, OptimizerFit(), MinibatchFit()])
def test_lbfgs_is_refused_where_the_learner_is_built(fit: Any) -> None:
    with pytest.raises(ValueError, match=MESSAGE):
        make_trpo(make_actor_policy(), optim=lbfgs(), critic_fit=fit)


@pytest.mark.parametrize("fit", [GaussNewtonFit(), LBFGSFit()])
def test_fits_that_do_not_use_it_take_any(fit: Any) -> None:
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    assert update(make_trpo(policy, optim=lbfgs(), critic_fit=fit), buffer).vf_loss.mean > 0


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Rprop])
def test_others_take_steps_also_with_a_schedule(kind: Any) -> None:
    optimizer = kind(nn.Linear(1, 1).parameters(), lr=0.1)
    check_steps(optimizer)
    torch.optim.lr_scheduler.LinearLR(optimizer)  # replaces step on the instance
    check_steps(optimizer)


def test_keywords_without_a_default_are_not_asked_for() -> None:
    class Verbose(torch.optim.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            return super().step(*args, **kwargs)

    check_steps(Verbose(nn.Linear(1, 1).parameters()))
    assert make_trpo(make_actor_policy(), Mlp((OBS_DIM, 1)), optim=AdamOptimizerFactory()).optim is not None
