"""The environments alone: the same steps without a policy, a buffer or an update."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jobs.cases import ENVPOOL_2, GYMNASIUM, Case
from jobs.sides import SEED, make_env


def simulator(name: str, case: Case) -> Callable[[], float]:
    """Return what steps for one update's steps, by random actions, and returns the seconds."""
    env = make_env(case.task)
    env.action_space.seed(SEED)
    actions = [[env.action_space.sample() for _ in range(case.envs)] for _ in range(case.segment)]
    step = in_process(case) if name == GYMNASIUM else pooled(case, 2 if name == ENVPOOL_2 else 1)

    def timed() -> float:
        start = time.perf_counter()
        for action in actions:
            step(action)
        return time.perf_counter() - start

    return timed


def in_process(case: Case) -> Callable[[Any], None]:
    """Return what steps gymnasium's environments one after another."""
    envs = [make_env(case.task) for _ in range(case.envs)]
    for i, env in enumerate(envs):
        env.reset(seed=i)

    def step(actions: Any) -> None:
        for env, action in zip(envs, actions, strict=True):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return step


def pooled(case: Case, threads: int) -> Callable[[Any], None]:
    """Return what steps a pool of EnvPool's, which resets its environments itself."""
    import envpool

    pool = envpool.make_gymnasium(case.task, num_envs=case.envs, num_threads=threads, seed=SEED)
    pool.reset()
    return lambda actions: pool.step(np.stack(actions))
