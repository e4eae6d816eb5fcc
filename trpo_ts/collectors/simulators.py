"""The environments as the collector's loop steps them.

Where a vector environment of Tianshou's is known, the loop reaches past it: environments in this process are stepped
one after another without their workers, and running statistics of observations are updated without Tianshou's wrapper.
Everything else is stepped by its own methods.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from tianshou.env import BaseVectorEnv, DummyVectorEnv, RayVectorEnv, ShmemVectorEnv, SubprocVectorEnv, VectorEnvNormObs
from tianshou.env.worker import DummyEnvWorker
from tianshou.utils import RunningMeanStd

from trpo_ts.collectors.infos import Infos, RowInfos, infos_of
from trpo_ts.collectors.observations import observations_of, stacked_observations
from trpo_ts.collectors.running_statistics import normalised, update
from trpo_ts.collectors.vector_envs import ForeignVectorEnv, as_vector_env

__all__ = ["Simulator", "simulator_of"]


class Simulator(Protocol):
    """Environments that step together. What they return does not change later."""

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        """Begin new episodes, and return the first observations and infos.

        :param ids: the numbers of the environments, shape ``(R,)``; None for all.
        :param kwargs: those of the environments' ``reset``.
        """

    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        """Return the next observations, rewards, ``terminated``, ``truncated`` and infos, ``R`` rows each.

        :param actions: the actions, one for each environment.
        :param ids: the numbers of the environments, shape ``(R,)``; None for all.
        """


def simulator_of(env: Any) -> Simulator:
    """Return the fastest way to step a vector environment.

    :param env: one of Tianshou's, wrapped or not, of gymnasium's, or of EnvPool's.
    """
    env = as_vector_env(env)
    if type(env) is VectorEnvNormObs:
        return _NormalisedObservations(env)
    if isinstance(env, ForeignVectorEnv):
        return env
    if type(env) is DummyVectorEnv and all(type(worker) is DummyEnvWorker for worker in env.workers):
        return _InProcess(env)
    return _ByItsMethods(env)


class _InProcess:
    """The environments of a ``DummyVectorEnv``."""

    def __init__(self, env: DummyVectorEnv) -> None:
        self._envs: list[Any] = [worker.env for worker in env.workers]
        self._all = np.arange(len(self._envs))

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        begun = [self._envs[i].reset(**kwargs) for i in self._chosen(ids)]
        return stacked_observations([obs for obs, _ in begun]), RowInfos.of([info for _, info in begun])

    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        obs, rewards, terminated, truncated, infos = [], [], [], [], []
        for i, action in zip(self._chosen(ids), actions, strict=True):
            result = self._envs[i].step(action)
            obs.append(result[0])
            rewards.append(result[1])
            terminated.append(result[2])
            truncated.append(result[3])
            result[4]["env_id"] = i  # as Tianshou's vectors do
            infos.append(result[4])
        return (
            stacked_observations(obs),
            np.stack(rewards),
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            RowInfos.of(infos),
        )

    def _chosen(self, ids: np.ndarray | None) -> np.ndarray:
        return self._all if ids is None else ids


class _ByItsMethods:
    """Any other vector environment with Tianshou's interface."""

    def __init__(self, env: BaseVectorEnv) -> None:
        self._env = env
        self._fresh = type(env) in (DummyVectorEnv, SubprocVectorEnv, ShmemVectorEnv, RayVectorEnv)

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        obs, infos = self._env.reset(ids, **kwargs)
        return observations_of(obs, fresh=self._fresh), infos_of(infos, len(obs))

    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        obs, rewards, terminated, truncated, infos = self._env.step(actions, ids)
        return observations_of(obs, fresh=self._fresh), rewards, terminated, truncated, infos_of(infos, len(rewards))


class _NormalisedObservations:
    """Environments within a ``VectorEnvNormObs``, whose statistics are the wrapper's own."""

    def __init__(self, env: VectorEnvNormObs) -> None:
        self._wrapper = env
        self._inner = simulator_of(env.venv)

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        obs, infos = self._inner.begin(ids, **kwargs)
        return self._normalised(obs), infos

    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        obs, *numbers = self._inner.transition(actions, ids)
        return self._normalised(obs), *numbers

    def _normalised(self, obs: Any) -> np.ndarray:
        statistics: RunningMeanStd | None = self._wrapper.obs_rms
        if not statistics:
            return obs
        if self._wrapper.update_obs_rms:
            update(statistics, obs)
        return normalised(statistics, obs)
