"""Schedules of the learning rate."""

from __future__ import annotations

import pytest
import torch
from runs import ROLLOUT, STEPS, make_run
from tianshou.algorithm.optim import AdamOptimizerFactory

from trpo_ts.training import LinearDecay


def rates(schedule, updates):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=0.5)
    scheduler = schedule.create_scheduler(optimizer)
    values = []
    for _ in range(updates):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("final_factor", [0.0, 0.25, 1.0])
def test_a_linear_decay_falls_over_the_planned_updates_and_stays(final_factor):
    values = rates(LinearDecay(2, 100, 32, final_factor), 12)  # 2 epochs of 4 updates
    planned = [0.5 * (1.0 - (1.0 - final_factor) * min(n, 8) / 8) for n in range(12)]
    assert values == pytest.approx(planned, abs=1e-15)
    assert all(type(value) is float and value >= 0.0 for value in values)


def test_a_training_beyond_the_plan_has_a_rate_that_is_not_negative():
    algorithm, params = make_run(max_epochs=4, tests=False)  # the schedule is for two
    algorithm.run_training(params)
    assert algorithm.optim._optim.param_groups[0]["lr"] == 0.0
    assert all(torch.isfinite(p).all() for p in algorithm.parameters())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 1, 1), "max_epochs"),
        ((1, 0, 1), "epoch_num_steps"),
        ((1, 1, 0), "collection_step"),
        ((1, 1, 1, 2), "final"),
    ],
)
def test_a_schedule_checks_its_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        LinearDecay(*arguments)


def test_the_optimiser_factory_takes_the_schedule():
    factory = AdamOptimizerFactory(lr=0.5).with_lr_scheduler_factory(LinearDecay(1, STEPS, ROLLOUT))
    optimizer, scheduler = factory.create_instances(torch.nn.Linear(1, 1))
    assert scheduler is not None
    assert optimizer.param_groups[0]["lr"] == 0.5
