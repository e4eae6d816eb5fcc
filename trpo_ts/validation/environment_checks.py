"""What a vector of environments must be, checked before a training begins."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import SyncVectorEnv
from tianshou.env import BaseVectorEnv, VectorEnvWrapper
from tianshou.env.worker import DummyEnvWorker

__all__ = ["check_separate_environments"]


def check_separate_environments(envs: BaseVectorEnv) -> None:
    """Check that no two workers in this process share one environment: each would continue the other's episode.

    :param envs: the vector environment, wrapped or not.
    :raises ValueError: when two do.
    """
    innermost: Any = envs
    while isinstance(innermost, VectorEnvWrapper):
        innermost = innermost.venv
    workers = [worker.env for worker in getattr(innermost, "workers", []) if isinstance(worker, DummyEnvWorker)]
    of_sync_vector = getattr(getattr(innermost, "venv", None), "unwrapped", None)
    single = list(of_sync_vector.envs) if isinstance(of_sync_vector, SyncVectorEnv) else workers
    own = [id(getattr(env, "unwrapped", env)) for env in single]
    if len(set(own)) < len(own):
        raise ValueError(
            f"env must have an environment of its own for each worker, got {len(set(own))} for {len(own)} workers; "
            "make a new one in each function: DummyVectorEnv([lambda: gym.make(...) for _ in range(n)]), not "
            "DummyVectorEnv([lambda: env] * n)"
        )
