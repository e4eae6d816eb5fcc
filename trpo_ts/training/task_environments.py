"""Environments of a task, side by side, as collectors take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
from tianshou.env import BaseVectorEnv, DummyVectorEnv, RayVectorEnv

from trpo_ts.collectors import as_vector_env
from trpo_ts.envs.envpool_tasks import make_envpool
from trpo_ts.envs.ray_tasks import MadeThere, start_ray
from trpo_ts.envs.task_description import TaskDescription
from trpo_ts.envs.tasks import make_task
from trpo_ts.training.job_config import JobConfig

__all__ = ["described_task", "environment_seeds", "environments_of_task"]


def described_task(config: JobConfig) -> TaskDescription:
    """Return the task of a job, as its environments are made."""
    return TaskDescription(task=config.task, env_backend=config.env_backend, **config.settings.shaping())


def environments_of_task(task: TaskDescription, seeds: Sequence[int], *, threads: int | None = None) -> BaseVectorEnv:
    """Return an environment of the task for each seed.

    :param task: the task.
    :param seeds: of the environments.
    :param threads: in which EnvPool simulates; None for one for every eight environments.
    :raises ValueError: for a task that cannot be made here, with what to do about it.
    """
    if task.env_backend == "envpool":
        pool = make_envpool(task.task, len(seeds), seeds[0], threads=threads, max_episode_steps=task.max_episode_steps)
        return cast(BaseVectorEnv, as_vector_env(pool))
    make = partial(make_task, task.task, **task.shaping())
    envs: BaseVectorEnv
    if task.env_backend == "ray":
        start_ray()
        envs = RayVectorEnv([partial(MadeThere, make)] * len(seeds))
    else:
        envs = DummyVectorEnv([make] * len(seeds))
    envs.seed(list(seeds))
    return envs


def environment_seeds(seed: int, use: int, count: int) -> list[int]:
    """Return seeds of environments that those of no other seed, or use, are likely to repeat; 31 bits each."""
    words = np.random.SeedSequence([seed, use]).generate_state(count)
    return [int(word) >> 1 for word in words]
