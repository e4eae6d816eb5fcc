"""The vector environments that can be collected from."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv
from tianshou.env import BaseVectorEnv

from trpo_ts.collectors.envpool_vector_env import EnvPoolVectorEnv
from trpo_ts.collectors.gymnasium_vector_env import GymnasiumVectorEnv

__all__ = ["as_vector_env"]


def as_vector_env(env: Any, *, double_buffered: bool = False) -> Any:
    """Return an environment as Tianshou's collectors take it.

    :param env: a vector environment of Tianshou's, which is returned as it is; one of gymnasium's, in any of its
        autoreset modes; or one of EnvPool's, made by ``envpool.make_gymnasium``. A single environment is returned too.
    :param double_buffered: for EnvPool, whether one half of the environments simulates while the policy acts for the
        other; see :class:`trpo_ts.collectors.envpool_vector_env.EnvPoolVectorEnv`.
    :raises ValueError: for a vector that cannot reset some of its environments without the others.
    """
    if isinstance(env, BaseVectorEnv):
        return env
    if any(base.__module__.startswith("envpool.") for base in type(env).__mro__):
        return EnvPoolVectorEnv(env, double_buffered=double_buffered)
    return GymnasiumVectorEnv(env) if isinstance(env, VectorEnv) else env
