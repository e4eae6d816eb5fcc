"""Environments and wrappers of the package.

Importing it registers ``PointMass1D-v0``, ``Catch-v0`` (images) and ``RepeatPrevious-v0`` (memory) with Gymnasium.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from trpo_ts.envs.catch import CatchEnv
from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.envs.flatten_action import FlattenAction
from trpo_ts.envs.observations import TupleToDictObservation
from trpo_ts.envs.point_mass import POINT_MASS_HORIZON, PointMass1DEnv
from trpo_ts.envs.repeat_previous import RepeatPreviousEnv
from trpo_ts.envs.smaller_images import SmallerImages

if TYPE_CHECKING:
    from trpo_ts.envs.point_mass_optimum import (
        POINT_MASS_BEST_RETURN,
        BestController,
        MeanReturn,
        evaluate,
        simulate,
        solve_point_mass,
    )

__all__ = [
    "POINT_MASS_BEST_RETURN",
    "POINT_MASS_HORIZON",
    "BestController",
    "CatchEnv",
    "FlatAction",
    "FlattenAction",
    "MeanReturn",
    "PointMass1DEnv",
    "RepeatPreviousEnv",
    "SmallerImages",
    "TupleToDictObservation",
    "evaluate",
    "simulate",
    "solve_point_mass",
]

if "PointMass1D-v0" not in gym.registry:
    gym.register(
        "PointMass1D-v0",
        entry_point="trpo_ts.envs.point_mass:PointMass1DEnv",
        max_episode_steps=POINT_MASS_HORIZON,
    )
    gym.register("Catch-v0", entry_point="trpo_ts.envs.catch:CatchEnv")
    gym.register("RepeatPrevious-v0", entry_point="trpo_ts.envs.repeat_previous:RepeatPreviousEnv")


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `python -m trpo_ts.envs.point_mass_optimum` does not load it twice.
    if name in __all__:
        return getattr(import_module("trpo_ts.envs.point_mass_optimum"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
