"""Tasks that EnvPool runs: their spaces, and vectors of their environments."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

__all__ = ["check_envpool_task", "envpool_spaces", "has_envpool_task", "make_envpool", "quiet_spaces"]


def has_envpool_task(task: str) -> bool:
    """Return whether EnvPool is installed, and has a task of this id."""
    try:
        import envpool
    except ImportError:
        return False
    return task in envpool.list_all_envs()


def check_envpool_task(task: str) -> None:
    """Check that EnvPool can run a task.

    :raises ValueError: when it is not installed, or does not have the task.
    """
    try:
        import envpool  # noqa: F401
    except ImportError as error:
        raise ValueError('env_backend="envpool" needs EnvPool; type: pip install "trpo-ts[envpool]"') from error
    if not has_envpool_task(task):
        raise ValueError(f'EnvPool has no task {task!r}; take env_backend="gymnasium"')


def envpool_spaces(task: str) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Return the observation and action space of a task of EnvPool."""
    import envpool

    with quiet_spaces():
        spec = envpool.make_spec(task)
        return spec.gymnasium_observation_space, spec.gymnasium_action_space


def make_envpool(
    task: str, count: int, seed: int, *, threads: int | None = None, max_episode_steps: int | None = None
) -> Any:
    """Return so many environments of EnvPool, synchronous, so that a seed gives one training on any number of threads.

    :param threads: how many simulate, >= 1. None takes one for every eight environments, and at most the cores that
        this process may use: for fewer, handing over the actions takes longer than it saves.
    :param max_episode_steps: the time limit of an episode; None takes the task's own.
    """
    import envpool

    if threads is None:
        threads = max(1, min(count // _ENVS_OF_A_THREAD, _usable_cores()))
    limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
    with quiet_spaces():
        envs = envpool.make_gymnasium(task, num_envs=count, num_threads=threads, seed=seed, **limit)
        _ = envs.observation_space, envs.action_space  # made at their first use, and then kept
        return envs


_ENVS_OF_A_THREAD = 8


def _usable_cores() -> int:
    """Return on how many cores this process may run."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return (os.cpu_count() or 1) if allowed is None else len(allowed(0))


@contextmanager
def quiet_spaces() -> Iterator[None]:
    """Keep gymnasium from warning of the bounds of EnvPool's spaces, which it rounds when they are first read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered")
        yield
