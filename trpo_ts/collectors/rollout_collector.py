"""A collector that costs little beside the environments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from tianshou.algorithm import Algorithm
from tianshou.algorithm.algorithm_base import Policy
from tianshou.config import ENABLE_VALIDATION
from tianshou.data import Batch, Collector, CollectStats, ReplayBuffer, ReplayBufferManager, VectorReplayBuffer
from tianshou.env import BaseVectorEnv

from trpo_ts.collectors.acting import Acting, acting_of
from trpo_ts.collectors.episodes import FinishedEpisodes, RunningEpisodes
from trpo_ts.collectors.hidden_states import hidden_rows, with_new_memory
from trpo_ts.collectors.infos import Infos, RowInfos
from trpo_ts.collectors.observations import as_rows, observations_of, with_rows
from trpo_ts.collectors.recording import Recording, parts_of
from trpo_ts.collectors.simulators import Simulator, simulator_of
from trpo_ts.collectors.vector_envs import as_vector_env
from trpo_ts.runtime import without_validation

__all__ = ["RolloutCollector"]


class RolloutCollector(Collector[CollectStats]):
    """Tianshou's ``Collector``, several times as fast beside the environments, with the same results bit for bit.

    Buffers, statistics and random numbers are those of Tianshou's collector. Where it cannot serve, for hooks, other
    buffers than plain ones or statistics classes of one's own, it says so in a warning, and Tianshou's loop collects.

    :param policy: the policy, or the algorithm that has it.
    :param env: the environments: a vector environment of Tianshou's, wrapped or not; gymnasium's ``SyncVectorEnv`` or
        ``AsyncVectorEnv``, in any autoreset mode; what ``envpool.make_gymnasium`` returns; or a single environment.
    :param buffer: where the transitions go; None makes one with 10,000 rows for each environment.
    :param exploration_noise: whether the policy's exploration noise is added to its actions.
    :param on_episode_done_hook: see Tianshou's ``Collector``.
    :param on_step_hook: see Tianshou's ``Collector``.
    :param raise_on_nan_in_buffer: whether NaN in the buffer is an error after a collect.
    :param collect_stats_class: the class of the statistics that :meth:`collect` returns.
    :raises ValueError: for a vector environment that cannot be collected from, with the fix.
    """

    def __init__(
        self,
        policy: Policy | Algorithm[Any],
        env: BaseVectorEnv | gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any],
        buffer: ReplayBuffer | None = None,
        exploration_noise: bool = False,
        on_episode_done_hook: Callable[..., Any] | None = None,
        on_step_hook: Callable[..., Any] | None = None,
        raise_on_nan_in_buffer: bool = ENABLE_VALIDATION,
        collect_stats_class: type[CollectStats] = CollectStats,
    ) -> None:
        super().__init__(
            policy,
            as_vector_env(env),
            buffer,
            exploration_noise=exploration_noise,
            on_episode_done_hook=on_episode_done_hook,
            on_step_hook=on_step_hook,
            raise_on_nan_in_buffer=raise_on_nan_in_buffer,
            collect_stats_class=collect_stats_class,
        )
        self._said: set[str] = set()

    def _collect(
        self,
        n_step: int | None = None,
        n_episode: int | None = None,
        random: bool = False,
        render: float | None = None,
        gym_reset_kwargs: dict[str, Any] | None = None,
    ) -> CollectStats:
        self._check_room(n_step)
        why_not = self._why_not()
        if why_not is not None and why_not not in self._said:
            self._said.add(why_not)
            warnings.warn(f"Tianshou's loop collects, because {why_not}", stacklevel=4)
        if why_not is not None or random or render is not None:
            return super()._collect(n_step, n_episode, random, render, gym_reset_kwargs)
        if self._pre_collect_obs_RO is None or self._pre_collect_info_R is None:
            raise ValueError(
                "the collector must be reset before it collects; call reset(), or collect(reset_before_collect=True)"
            )
        loop = _Loop(self, n_step, n_episode, gym_reset_kwargs or {})
        with without_validation():
            loop.run()
        self.collect_step += loop.steps
        self.collect_episode += len(loop.finished.lengths)
        if n_step:
            self._pre_collect_obs_RO = as_rows(loop.obs)
            self._pre_collect_info_R = loop.infos.as_dictionaries()
            self._pre_collect_hidden_state_RH = loop.state
        else:
            self.reset_env(gym_reset_kwargs)
        return loop.stats()

    def _check_room(self, n_step: int | None) -> None:
        """Check that the buffer holds what is to be collected.

        :raises ValueError: when it does not; it names both numbers.
        """
        parts = parts_of(self.buffer)
        rows = -(-(n_step or 0) // self.env_num)
        room = min(part.maxsize for part in parts[: self.env_num])
        if rows > room and type(self.buffer) in _PLAIN_BUFFERS:
            raise ValueError(
                f"buffer must hold the {rows} steps of each environment that n_step={n_step} asks for, got room for "
                f"{room}: later steps would overwrite earlier ones; take "
                f"VectorReplayBuffer({rows * self.env_num}, {self.env_num})"
            )

    def _why_not(self) -> str | None:
        """Return why the loop of this class does not serve; None where it does."""
        parts, kind, stats = parts_of(self.buffer), type(self), self.collect_stats_class
        if self.env.is_async:
            return "the environments are asynchronous"
        if type(self.buffer) not in _PLAIN_BUFFERS or any(type(part) is not ReplayBuffer for part in parts):
            return f"the buffer is a {type(self.buffer).__name__}"
        if self.buffer._save_only_last_obs:
            return "the buffer has save_only_last_obs=True"
        if self._on_step_hook is not None or kind.run_on_step_hook is not Collector.run_on_step_hook:
            return "it has a step hook"
        if self._on_episode_done_hook is not None or kind.run_on_episode_done is not Collector.run_on_episode_done:
            return "it has an episode hook"
        if any(getattr(stats, name) is not getattr(CollectStats, name) for name in _STATS_METHODS):
            return f"{stats.__name__} computes statistics step by step"
        return None


_PLAIN_BUFFERS = (ReplayBuffer, ReplayBufferManager, VectorReplayBuffer)
_STATS_METHODS = ("update_at_step_batch", "update_at_episode_done")


class _Loop:
    """One collect: what is seen, said and remembered now, and what has happened."""

    def __init__(
        self, collector: RolloutCollector, n_step: int | None, n_episode: int | None, reset_kwargs: dict[str, Any]
    ) -> None:
        self._n_step, self._n_episode, self._reset_kwargs = n_step, n_episode, reset_kwargs
        self._stats: CollectStats = collector.collect_stats_class()
        self._simulator: Simulator = simulator_of(collector.env)
        self._act: Acting = acting_of(collector.policy, exploration_noise=collector.exploration_noise)
        self._buffer = collector.buffer
        self._recording = Recording(collector.buffer)
        self._running: RunningEpisodes | None = None
        count = collector.env_num if n_step else min(collector.env_num, n_episode or 0)
        self._everyone = count == collector.env_num
        self._envs = np.arange(count)
        self.steps = 0
        self.finished = FinishedEpisodes()
        self.obs = observations_of(collector._pre_collect_obs_RO)[: count]
        self.infos: Infos = RowInfos(np.asarray(collector._pre_collect_info_R)[:count])
        state = collector._pre_collect_hidden_state_RH
        self.state = None if state is None else state[:count]

    def run(self) -> None:
        """Collect until there is enough."""
        while not self._has_enough():
            self._step()
        if self._running is not None:
            self._recording.write(self._running)

    def stats(self) -> CollectStats:
        """Return the statistics of the collect."""
        self._stats.n_collected_steps = self.steps
        self._stats.pred_dist_std_array = self._act.deviations()
        self.finished.into(self._stats)
        return self._stats

    def _has_enough(self) -> bool:
        if self._n_step:
            return self.steps >= self._n_step
        return len(self.finished.lengths) >= (self._n_episode or 0)

    def _step(self) -> None:
        envs = self._envs
        action = self._act(self.obs, self.infos, self.state)
        obs, rewards, terminated, truncated, infos = self._simulator.transition(
            action.sent, None if self._everyone else envs
        )
        done = terminated | truncated
        self._recording.add(
            envs,
            infos,
            action.policy,
            obs=self.obs,
            act=action.act,
            rew=rewards,
            terminated=terminated,
            truncated=truncated,
            done=done,
            obs_next=obs,
        )
        if self._running is None:
            self._running = RunningEpisodes.of(parts_of(self._buffer), rewards)
        self._running.step(slice(None) if self._everyone else envs, rewards)
        self.steps += len(envs)
        self.obs, self.infos, self.state = obs, infos, action.state
        if done.any():
            self._begin_episodes(np.flatnonzero(done))
        if self._recording.is_large:
            self._recording.write(self._running)

    def _begin_episodes(self, ended: np.ndarray) -> None:
        """Count the episodes that ended, and begin new ones; ``ended`` are their rows."""
        assert self._running is not None
        envs = self._envs[ended]
        self.finished.add(self._running, envs)
        self._running.begin(envs)
        first, said = self._simulator.begin(envs, **self._reset_kwargs)
        self.obs = with_rows(self.obs, ended, first)
        self.infos = self.infos.with_rows(ended, said)
        if self.state is not None:
            self.state = with_new_memory(self.state, ended)
        if self._n_episode:
            self._leave_surplus(ended)

    def _leave_surplus(self, ended: np.ndarray) -> None:
        """Leave out environments that have ended an episode when fewer episodes are wanted than environments run.

        So each environment gives at least one episode, and short ones have no advantage.
        """
        surplus = len(self._envs) - ((self._n_episode or 0) - len(self.finished.lengths))
        if surplus <= 0:
            return
        stay = np.ones(len(self._envs), dtype=bool)
        stay[ended[:surplus]] = False
        self._envs, self._everyone = self._envs[stay], False
        self.obs, self.infos = self.obs[stay], self.infos[stay]
        if self.state is not None:
            self.state = hidden_rows(self.state, stay)
