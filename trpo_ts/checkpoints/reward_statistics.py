"""The statistics and running sums of normalised rewards, as part of a collector's state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tianshou.env.venv_wrappers import VectorEnvWrapper

from trpo_ts.collectors.normalised_rewards import VectorEnvNormReward

__all__ = ["check_reward_statistics", "reward_statistics", "set_reward_statistics", "vector_layers"]


def reward_statistics(envs: Any) -> list[dict[str, Any]]:
    """Return the statistics of each ``VectorEnvNormReward`` around the environments, the outermost first."""
    return [
        {
            "mean": wrapper.return_rms.mean,
            "var": wrapper.return_rms.var,
            "count": wrapper.return_rms.count,
            "running": wrapper.running_returns.copy(),
        }
        for wrapper in _normalisers(envs)
    ]


def check_reward_statistics(envs: Any, statistics: list[dict[str, Any]]) -> None:
    """Check that statistics fit the environments.

    :raises ValueError: when the number of wrappers differs, or that of the environments in them.
    """
    wrappers = list(_normalisers(envs))
    if len(wrappers) != len(statistics):
        raise ValueError(
            f"the environments must have {len(statistics)} VectorEnvNormReward around them, got {len(wrappers)}"
        )
    for wrapper, state in zip(wrappers, statistics, strict=True):
        if np.shape(state["running"]) != wrapper.running_returns.shape:
            raise ValueError(
                f"the reward statistics must be of {len(wrapper.running_returns)} environments, "
                f"got {np.shape(state['running'])}"
            )


def set_reward_statistics(envs: Any, statistics: list[dict[str, Any]], *, running: bool) -> None:
    """Set what :func:`reward_statistics` returned.

    :param envs: the environments.
    :param statistics: the statistics.
    :param running: whether the episodes continue, so that their sums do.
    """
    for wrapper, state in zip(_normalisers(envs), statistics, strict=True):
        for name in ("mean", "var", "count"):
            setattr(wrapper.return_rms, name, state[name])
        wrapper.running_returns[:] = state["running"] if running else 0.0


def vector_layers(envs: Any) -> Iterator[Any]:
    """Yield a vector environment and those within it, the outermost first."""
    yield envs
    while isinstance(envs, VectorEnvWrapper):
        envs = envs.venv
        yield envs


def _normalisers(envs: Any) -> Iterator[VectorEnvNormReward]:
    return (layer for layer in vector_layers(envs) if isinstance(layer, VectorEnvNormReward))
