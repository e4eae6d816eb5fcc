"""The environments as the collector's loop steps them.

Where a vector environment of Tianshou's is known, the loop reaches past it: environments in this process are stepped
one after another without their workers, and running statistics of observations are updated without Tianshou's wrapper.
Everything else is stepped by its own methods.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import Any, Protocol

import numpy as np
from tianshou.env import BaseVectorEnv, DummyVectorEnv, RayVectorEnv, ShmemVectorEnv, SubprocVectorEnv, VectorEnvNormObs
from tianshou.env.worker import DummyEnvWorker
from tianshou.utils import RunningMeanStd

from trpo_ts.collectors.foreign_vector_env import ForeignVectorEnv, Transition
from trpo_ts.collectors.infos import Infos, RowInfos, infos_of
from trpo_ts.collectors.normalised_rewards import VectorEnvNormReward
from trpo_ts.collectors.observation_rows import observations_of, stacked_observations
from trpo_ts.collectors.running_statistics import normalised, update
from trpo_ts.collectors.vector_envs import as_vector_env

__all__ = ["Simulator", "simulator_of"]


class Simulator(Protocol):
    """Environments that step together. What they return does not change later."""

    @property
    def groups(self) -> list[np.ndarray]:
        """The numbers of the environments, in the groups that can be stepped one while another is waited for."""

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        """Begin new episodes, and return the first observations and infos.

        :param ids: the numbers of the environments, shape ``(R,)``; None for all.
        :param kwargs: those of the environments' ``reset``.
        """

    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        """Give environments their actions.

        :param actions: one for each environment.
        :param ids: the numbers of the environments, shape ``(R,)``; None for all.
        """

    def receive(self) -> Transition:
        """Return what happened in the environments that were given actions first, of those not received yet."""

    def abandon(self) -> None:
        """Wait for what is under way and forget it, after an interruption."""


def simulator_of(env: Any) -> Simulator:
    """Return the fastest way to step a vector environment.

    :param env: one of Tianshou's, wrapped or not, of gymnasium's, or of EnvPool's.
    """
    env = as_vector_env(env)
    if type(env) is VectorEnvNormObs:
        return _NormalisedObservations(env)
    if type(env) is VectorEnvNormReward:
        return _NormalisedRewards(env)
    if isinstance(env, ForeignVectorEnv):
        return env
    if type(env) is DummyVectorEnv and all(type(worker) is DummyEnvWorker for worker in env.workers):
        return _InProcess(env)
    return _ByItsMethods(env)


class _AtOnce:
    """Environments that step when they are waited for.

    :param count: how many.
    """

    def __init__(self, count: int) -> None:
        self.groups = [np.arange(count)]
        self._sent: tuple[np.ndarray, np.ndarray | None] = np.empty(0), None

    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        self._sent = actions, ids

    def receive(self) -> Transition:
        return self._step(*self._sent)

    def abandon(self) -> None:
        """Nothing is under way."""

    @abstractmethod
    def _step(self, actions: np.ndarray, ids: np.ndarray | None) -> Transition:
        """Step."""


class _InProcess(_AtOnce):
    """The environments of a ``DummyVectorEnv``."""

    def __init__(self, env: DummyVectorEnv) -> None:
        super().__init__(len(env))
        workers: list[Any] = env.workers
        self._numbered = list(zip(self.groups[0], [worker.env for worker in workers], strict=True))

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        begun = [env.reset(**kwargs) for _, env in self._chosen(ids)]
        return stacked_observations([obs for obs, _ in begun]), RowInfos.of([info for _, info in begun])

    def _step(self, actions: np.ndarray, ids: np.ndarray | None) -> Transition:
        chosen = self._chosen(ids)
        obs, rewards, terminated, truncated, infos = zip(
            *[env.step(action) for (_, env), action in zip(chosen, actions, strict=True)], strict=True
        )
        for (i, _), info in zip(chosen, infos, strict=True):
            info["env_id"] = i  # as Tianshou's vectors do
        return (
            stacked_observations(obs),
            np.array(rewards),
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            RowInfos.of(infos),
        )

    def _chosen(self, ids: np.ndarray | None) -> list[tuple[np.int64, Any]]:
        return self._numbered if ids is None else [self._numbered[i] for i in ids]


class _ByItsMethods(_AtOnce):
    """Any other vector environment with Tianshou's interface."""

    def __init__(self, env: BaseVectorEnv) -> None:
        super().__init__(len(env))
        self._env = env
        self._fresh = type(env) in (DummyVectorEnv, SubprocVectorEnv, ShmemVectorEnv, RayVectorEnv)

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        obs, infos = self._env.reset(ids, **kwargs)
        return observations_of(obs, fresh=self._fresh), infos_of(infos, len(obs))

    def _step(self, actions: np.ndarray, ids: np.ndarray | None) -> Transition:
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

    @property
    def groups(self) -> list[np.ndarray]:
        return self._inner.groups

    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        self._inner.send(actions, ids)

    def abandon(self) -> None:
        self._inner.abandon()

    def receive(self) -> Transition:
        obs, rewards, terminated, truncated, infos = self._inner.receive()
        return self._normalised(obs), rewards, terminated, truncated, infos

    def _normalised(self, obs: Any) -> Any:
        statistics: RunningMeanStd | None = self._wrapper.obs_rms
        if not statistics:
            return obs
        if self._wrapper.update_obs_rms:
            update(statistics, obs)
        return normalised(statistics, obs)


class _NormalisedRewards:
    """Environments within a ``VectorEnvNormReward``, whose statistics are the wrapper's own."""

    def __init__(self, env: VectorEnvNormReward) -> None:
        self._wrapper = env
        self._inner = simulator_of(env.venv)
        self._under_way: deque[np.ndarray | None] = deque()

    @property
    def groups(self) -> list[np.ndarray]:
        return self._inner.groups

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        self._wrapper.begin(ids)
        return self._inner.begin(ids, **kwargs)

    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        self._inner.send(actions, ids)
        self._under_way.append(ids)

    def abandon(self) -> None:
        self._under_way.clear()
        self._inner.abandon()

    def receive(self) -> Transition:
        obs, rewards, terminated, truncated, infos = self._inner.receive()
        rewards = self._wrapper.normalised(rewards, self._under_way.popleft())
        return obs, rewards, terminated, truncated, infos
