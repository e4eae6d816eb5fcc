"""Environments in Ray's processes, on this machine or on those of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
from tianshou.env import RayVectorEnv

__all__ = ["check_ray", "make_ray_envs"]


def check_ray() -> None:
    """Check that Ray is installed.

    :raises ValueError: when it is not.
    """
    if find_spec("ray") is None:
        raise ValueError('env_backend="ray" needs Ray; type: pip install "trpo-ts[ray]"')


def make_ray_envs(make: Callable[[], gym.Env[Any, Any]], count: int) -> RayVectorEnv:
    """Return so many environments, each in a process of Ray.

    Ray's cluster is that of the variable ``RAY_ADDRESS``; without it Ray is started on this machine. A cluster's
    machines need the same version of this package, and what the task needs.

    :param make: makes an environment; it is called in Ray's processes.
    :param count: the number of environments.
    """
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=None if "RAY_ADDRESS" in os.environ else False)
    return RayVectorEnv([partial(_MadeThere, make)] * count)


class _MadeThere(gym.Env[Any, Any]):
    """Arrives in another process as the environment: Ray makes arrays that it sends read-only, and not all can be."""

    def __init__(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        self._make = make

    def __reduce__(self) -> Any:
        return self._make, ()
