"""The records of a training."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trpo_ts.diagnostics import EvaluationRecord, PolicySnapshot, RolloutRecord, UpdateRecord


def test_returns_of_a_record_are_summarised_by_numpys_percentiles():
    record = UpdateRecord(iteration=1, env_steps=10, episode_returns=(4.0, 1.0, 3.0, 2.0, 10.0))
    assert record.return_mean == 4.0
    assert record.return_p10 == pytest.approx(1.4)
    assert record.return_p90 == pytest.approx(7.6)
    empty = UpdateRecord(iteration=1, env_steps=10)
    assert (empty.return_mean, empty.return_p10, empty.return_p90) == (None, None, None)


@pytest.mark.parametrize(
    ("statistics", "rejected"),
    [
        ({}, False),
        ({"accepted": 1.0, "step_size": 0.0}, False),
        ({"accepted": 0.5}, False),
        ({"accepted": 0.0, "step_size": 0.1}, True),
        ({"step_size": 0.0}, True),
        ({"step_size": 0.1}, False),
    ],
)
def test_an_update_is_rejected_when_no_step_was_accepted(statistics, rejected):
    assert UpdateRecord(1, 10, **statistics).rejected is rejected


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: UpdateRecord(0, 10), "iteration"),
        (lambda: UpdateRecord(1, -1), "env_steps"),
        (lambda: UpdateRecord(1, 1.5), "env_steps"),
        (lambda: UpdateRecord(1, 10, (1.0, math.nan)), "episode_returns"),
        (lambda: UpdateRecord(1, 10, kl=math.inf), "kl"),
        (lambda: UpdateRecord(1, 10, kl="0.1"), "kl"),
        (lambda: EvaluationRecord(1, ()), "episode_returns"),
        (lambda: RolloutRecord(((1.0,), (2.0,)), ((1.0,), (1.0,)), (0.0,)), "T >= 1"),
        (lambda: RolloutRecord(((1.0,),), (), ()), "T >= 1"),
        (lambda: RolloutRecord(((1.0,), (2.0, 3.0)), ((1.0,),), (0.0,)), "observations"),
        (lambda: RolloutRecord(((1.0,), (2.0,)), ((1.0,),), (0.0,), ("x", "v")), "observation_names"),
        (lambda: PolicySnapshot(1, (0.0, 1.0), (0.0,)), "mean action"),
    ],
)
def test_malformed_values_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_arrays_become_tuples():
    record = RolloutRecord(np.zeros((3, 2), np.float32), np.ones((2, 1)), np.array([1, 2]))
    assert record.observations == ((0.0, 0.0),) * 3
    assert record.rewards == (1.0, 2.0)
    assert record.observation_names == ("observation[0]", "observation[1]")
    assert record.action_names == ("action[0]",)
