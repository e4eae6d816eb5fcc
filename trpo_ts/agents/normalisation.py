"""The normalisation of observations by the statistics of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from tianshou.utils import RunningMeanStd

from trpo_ts.collectors.running_statistics import normalised

__all__ = ["Normalisation"]


class Normalisation:
    """What each ``VectorEnvNormObs`` of a training does to observations, with statistics that stay.

    :param statistics: those of a checkpoint, the outermost wrapper first.
    :param space: the space of the observations.
    :raises ValueError: for statistics that do not fit the space.
    """

    def __init__(self, statistics: Sequence[Mapping[str, Any]], space: gym.Space[Any]) -> None:
        self.layers = [_running_statistics(state, space) for state in reversed(statistics)]
        """The statistics, the innermost wrapper's first, as they are applied."""

    def __call__(self, obs: Any) -> Any:
        """Return observations ``(N, ...)`` as the policy was trained on them."""
        for statistics in self.layers:
            obs = normalised(statistics, obs)
        return obs


def _running_statistics(state: Mapping[str, Any], space: gym.Space[Any]) -> RunningMeanStd:
    statistics = RunningMeanStd()
    mean, var = np.asarray(state["mean"], float), np.asarray(state["var"], float)
    shape = tuple(space.shape or ())
    if mean.shape != var.shape or mean.shape not in ((), shape):  # () where nothing was observed yet
        raise ValueError(f"the observation statistics must be of the shape {shape}, got {mean.shape} and {var.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0.0).all()):
        raise ValueError("the observation statistics must be finite, with variances >= 0")
    statistics.mean, statistics.var, statistics.count = state["mean"], state["var"], state["count"]
    for name in {"clip_max", "eps"} & set(state):  # checkpoints of earlier versions leave Tianshou's defaults
        setattr(statistics, name, state[name])
    return statistics
