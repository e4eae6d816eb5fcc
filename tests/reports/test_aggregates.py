"""Interquartile means and their intervals, beside scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trpo_ts.reports.aggregates import bootstrap_interval, interquartile_mean

VALUES = np.random.default_rng(3).exponential(size=(10, 3))


@pytest.mark.parametrize("seeds", [1, 2, 3, 4, 7, 10])
def test_the_interquartile_mean_is_scipys(seeds):
    expected = stats.trim_mean(VALUES[:seeds], 0.25, axis=0)
    np.testing.assert_allclose(interquartile_mean(VALUES[:seeds]), expected)


def test_an_outlier_does_not_move_it():
    np.testing.assert_array_equal(interquartile_mean(np.array([1.0, 2.0, 3.0, 1e9])), 2.5)


def test_the_interval_is_that_of_scipys_bootstrap():
    low, high = bootstrap_interval(VALUES)
    for column in range(3):
        expected = stats.bootstrap(
            (VALUES[:, column],), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), method="percentile", rng=0
        ).confidence_interval
        # The standard error of the upper end with 2,000 resamples of so skewed a sample is about 0.06 of the width.
        scale = expected.high - expected.low
        assert abs(low[column] - expected.low) < 0.15 * scale
        assert abs(high[column] - expected.high) < 0.15 * scale
    np.testing.assert_array_equal(bootstrap_interval(VALUES), (low, high))
    assert np.all((low < interquartile_mean(VALUES)) & (interquartile_mean(VALUES) < high))
