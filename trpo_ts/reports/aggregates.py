"""The interquartile mean over seeds, with bootstrap intervals (Agarwal et al., 2021, arXiv:2108.13264)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "interquartile_mean"]

_RESAMPLES = 2_000
_LEVEL = 0.95
_SEED = 0


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the middle half of S values: a quarter, rounded down, is left out at each end.

    Of fewer than four values it is their mean.

    :param values: shape ``(S, ...)``.
    :return: shape ``(...)``.
    """
    cut = len(values) // 4
    return np.asarray(np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0), dtype=np.float64)


def bootstrap_interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % percentile bootstrap interval of the interquartile mean over S seeds.

    The same values give the same interval. Of few seeds it is too narrow, as any bootstrap interval.

    :param values: shape ``(S, P)``.
    :return: two arrays of shape ``(P,)``.
    """
    draws = np.random.default_rng(_SEED).integers(len(values), size=(len(values), _RESAMPLES))
    estimates = np.stack([interquartile_mean(column[draws]) for column in values.T], axis=-1)
    low, high = np.quantile(estimates, [(1.0 - _LEVEL) / 2.0, (1.0 + _LEVEL) / 2.0], axis=0)
    return low, high
