"""The states of collectors: counters, statistics of the observations, and running episodes where that is possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv
from tianshou.data import BaseCollector, Collector
from tianshou.env import BaseVectorEnv, VectorEnvNormObs
from tianshou.env.worker import DummyEnvWorker

from trpo_ts.checkpoints.environments import (
    changed_constant,
    check_environment_state,
    environment_states,
    set_environment_state,
)
from trpo_ts.checkpoints.packing import pack
from trpo_ts.checkpoints.reward_statistics import (
    check_reward_statistics,
    reward_statistics,
    set_reward_statistics,
    vector_layers,
)
from trpo_ts.collectors import RolloutCollector
from trpo_ts.collectors.gymnasium_vector_env import GymnasiumVectorEnv
from trpo_ts.collectors.recording import parts_of

__all__ = [
    "check_collector_state",
    "check_observation_statistics",
    "collector_state",
    "observation_statistics",
    "set_collector_state",
    "set_observation_statistics",
]


_COLLECTORS = (Collector, RolloutCollector)


def observation_statistics(envs: BaseVectorEnv) -> list[dict[str, Any]]:
    """Return the running statistics of each ``VectorEnvNormObs`` around the environments, the outermost first.

    How they are used, ``clip_max`` and ``eps``, is a setting of the environments; it is there for agents, which have
    none.
    """
    names = ("mean", "var", "count", "clip_max", "eps")
    return [{name: getattr(wrapper.obs_rms, name) for name in names} for wrapper in _normalisers(envs)]


def set_observation_statistics(envs: BaseVectorEnv, statistics: list[dict[str, Any]]) -> None:
    """Set what :func:`observation_statistics` returned; who shares the statistics, as test environments do, sees it.

    :raises ValueError: see :func:`check_observation_statistics`.
    """
    check_observation_statistics(envs, statistics)
    for wrapper, state in zip(_normalisers(envs), statistics, strict=True):
        for name in ("mean", "var", "count"):
            setattr(wrapper.obs_rms, name, state[name])


def check_observation_statistics(envs: BaseVectorEnv, statistics: list[dict[str, Any]]) -> None:
    """Check that statistics fit the environments.

    :raises ValueError: when the number of ``VectorEnvNormObs`` differs, or the shape of an observation.
    """
    wrappers = list(_normalisers(envs))
    if len(wrappers) != len(statistics):
        hint = "" if statistics else "; save_checkpoint(envs=...) saves their statistics"
        raise ValueError(
            f"the environments must have {len(statistics)} VectorEnvNormObs around them, got {len(wrappers)}{hint}"
        )
    for wrapper, state in zip(wrappers, statistics, strict=True):
        here, there = np.shape(wrapper.obs_rms.mean), np.shape(state["mean"])
        if np.shape(state["var"]) != there or (() not in (here, there) and here != there):  # () before the first
            raise ValueError(f"the observation statistics must be of shape {there}, got {here}")


def collector_state(collector: BaseCollector[Any]) -> dict[str, Any]:
    """Return what of a collector changes a later rollout, given that its buffer is empty, as it is after an update.

    ``episodes`` is None where an environment cannot be written down; ``why_not`` says why.
    """
    episodes, why_not = None, None
    try:
        episodes = _episodes(collector)
    except ValueError as error:
        why_not = str(error)
    return {
        "count": len(collector.env),
        "totals": [collector.collect_step, collector.collect_episode, collector.collect_time],
        "statistics": observation_statistics(collector.env),
        "reward_statistics": reward_statistics(collector.env),
        "episodes": episodes,
        "why_not": why_not,
    }


def check_collector_state(collector: BaseCollector[Any], state: dict[str, Any]) -> None:
    """Check that a state fits the collector.

    :raises ValueError: when the number of environments, or their wrappers, are others.
    """
    if len(collector.env) != state["count"]:
        raise ValueError(f"the collector must have {state['count']} environments, got {len(collector.env)}")
    check_observation_statistics(collector.env, state["statistics"])
    check_reward_statistics(collector.env, state.get("reward_statistics", []))
    if state["episodes"] is not None:
        environments = _local_environments(collector.env)
        if environments is None or type(collector) not in _COLLECTORS:
            raise ValueError(
                "the environments must be in a DummyVectorEnv or SyncVectorEnv, and a Collector or RolloutCollector"
            )
        for env, layers in zip(environments, state["episodes"]["environments"], strict=True):
            check_environment_state(env, layers)


def set_collector_state(collector: BaseCollector[Any], state: dict[str, Any], entropy: Sequence[int]) -> str | None:
    """Set what :func:`collector_state` returned, to a collector that fits it.

    Environments that could not be written down begin new episodes, seeded from ``entropy``, so that they do not
    repeat those of the run's start. So do environments whose code, definitions or classes are others than then.

    :param entropy: numbers on which the new seeds depend.
    :return: why the episodes are new; None if they are those that ran.
    """
    set_observation_statistics(collector.env, state["statistics"])
    episodes, why_new = state["episodes"], state.get("why_not") or "they could not be saved"
    if episodes is not None:
        collector.reset()  # which may set what is compared
        changed = _changed(collector, episodes)
        why_new = f"{changed} is not what it was"
        episodes = episodes if changed is None else None
    if episodes is None:
        seeds = np.random.SeedSequence(entropy).generate_state(state["count"])
        if hasattr(collector.env, "seed"):
            collector.env.seed([int(seed) >> 1 for seed in seeds])  # some environments take 31 bits
        set_observation_statistics(collector.env, state["statistics"])
        collector.reset()
    else:
        _set_episodes(collector, episodes)
        set_observation_statistics(collector.env, state["statistics"])
    set_reward_statistics(collector.env, state.get("reward_statistics", []), running=episodes is not None)
    collector.collect_step, collector.collect_episode, collector.collect_time = state["totals"]
    return why_new if episodes is None else None


def _changed(collector: BaseCollector[Any], episodes: dict[str, Any]) -> str | None:
    pairs = zip(_local_environments(collector.env) or [], episodes["environments"], strict=True)
    return next((name for env, state in pairs if (name := changed_constant(env, state))), None)


def _episodes(collector: Any) -> dict[str, Any]:
    environments = _local_environments(collector.env)
    if environments is None:
        raise ValueError("the environments are in other processes")
    if type(collector) not in _COLLECTORS or collector._pre_collect_obs_RO is None:
        raise ValueError("no Collector or RolloutCollector holds them")
    episodes = {
        "obs": collector._pre_collect_obs_RO,
        "info": collector._pre_collect_info_R,
        "hidden": collector._pre_collect_hidden_state_RH,
        "returns": [buffer._ep_return for buffer in parts_of(collector.buffer)],
        "lengths": [buffer._ep_len for buffer in parts_of(collector.buffer)],
    }
    pack(episodes, "the collector's")  # infos may hold anything
    return {**episodes, "environments": environment_states(environments)}


def _set_episodes(collector: Any, episodes: dict[str, Any]) -> None:
    environments = _local_environments(collector.env) or []
    for env, state in zip(environments, episodes["environments"], strict=True):
        set_environment_state(env, state)
    collector._pre_collect_obs_RO = episodes["obs"]
    collector._pre_collect_info_R = episodes["info"]
    collector._pre_collect_hidden_state_RH = episodes["hidden"]
    buffers = parts_of(collector.buffer)
    for buffer, ep_return, length in zip(buffers, episodes["returns"], episodes["lengths"], strict=True):
        buffer._ep_return, buffer._ep_len = ep_return, length


def _normalisers(envs: BaseVectorEnv) -> Iterator[VectorEnvNormObs]:
    return (layer for layer in vector_layers(envs) if isinstance(layer, VectorEnvNormObs))


def _local_environments(envs: Any) -> list[gym.Env[Any, Any]] | None:
    """Return the environments, outermost wrapper first, where they live in this process."""
    *_, innermost = vector_layers(envs)
    if isinstance(innermost, GymnasiumVectorEnv):
        return list(innermost.venv.envs) if type(innermost.venv) is SyncVectorEnv else None
    workers = getattr(innermost, "workers", [])
    if not workers or innermost.is_async or not all(isinstance(worker, DummyEnvWorker) for worker in workers):
        return None
    return [worker.env for worker in workers]
