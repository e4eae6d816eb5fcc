"""Curves: few points whatever the length of a run, and common steps of several."""

from __future__ import annotations

import numpy as np
from synthetic_runs import recorded

from trpo_ts.reports.curves import MOST_POINTS, Curve, common_steps, merged, return_curve


def test_few_updates_are_a_point_each():
    curve = merged([10, 20, 30], [1.0, np.nan, 3.0], np.mean)
    np.testing.assert_array_equal(curve.steps, [10, 20, 30])
    np.testing.assert_array_equal(curve.values, [1.0, np.nan, 3.0])


def test_many_updates_share_points_and_none_is_lost():
    count = 3 * MOST_POINTS + 1
    values = np.zeros(count)
    values[-1], values[:4] = 9.0, np.nan
    curve = merged(list(range(1, count + 1)), list(values), np.max)
    assert len(curve.steps) <= MOST_POINTS
    assert (curve.steps[0], curve.steps[-1]) == (4, count)
    assert np.isnan(curve.values[0])
    assert curve.values[-1] == 9.0


def test_a_curve_without_a_value_is_none():
    assert not merged([1, 2], [np.nan, np.nan], np.mean)
    assert not merged([], [], np.mean)
    assert merged([1], [0.0], np.mean)


def test_common_steps_are_those_that_all_runs_reached():
    one = Curve(np.array([0.0, 10.0, 20.0]), np.array([0.0, np.nan, 20.0]))
    two = Curve(np.array([5.0, 15.0, 30.0]), np.array([1.0, 1.0, 2.5]))
    steps, values = common_steps([one, two])
    np.testing.assert_array_equal(steps, [5.0, 15.0, 20.0])
    np.testing.assert_allclose(values, [[5.0, 15.0, 20.0], [1.0, 1.0, 1.5]])
    apart = Curve(np.array([50.0, 60.0]), np.array([1.0, 1.0]))
    assert common_steps([one, apart])[0].size == 0


def test_updates_in_which_no_episode_ended_leave_no_gap():
    run = recorded(12)
    object.__setattr__(run.updates[3], "episode_returns", ())
    curve = return_curve(run, lambda update: update.return_mean)
    assert len(curve.steps) == 11
    assert np.isfinite(curve.values).all()
