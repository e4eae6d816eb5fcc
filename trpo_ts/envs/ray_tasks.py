"""Environments in Ray's processes, on this machine or on those of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gymnasium as gym

__all__ = ["MadeThere", "check_ray", "start_ray"]


def check_ray() -> None:
    """Check that Ray is installed.

    :raises ValueError: when it is not.
    """
    if find_spec("ray") is None:
        raise ValueError('env_backend="ray" needs Ray; type: pip install "trpo-ts[ray]"')


def start_ray() -> None:
    """Join Ray's cluster at the address in the variable ``RAY_ADDRESS``; without it start Ray on this machine.

    A cluster's machines need the same version of this package, and what the task needs.
    """
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=None if "RAY_ADDRESS" in os.environ else False)


class MadeThere(gym.Env[Any, Any]):
    """Arrives in another process as the environment: Ray makes arrays that it sends read-only, and not all can be.

    :param make: makes the environment, in the other process.
    """

    def __init__(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        self._make = make

    def __reduce__(self) -> Any:
        return self._make, ()
