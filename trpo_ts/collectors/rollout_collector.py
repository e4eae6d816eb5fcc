"""A collector that costs little beside the environments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, cast

import gymnasium as gym
import numpy as np
from tianshou.algorithm.algorithm_base import Algorithm, Policy
from tianshou.config import ENABLE_VALIDATION
from tianshou.data import Collector, CollectStats, ReplayBuffer, ReplayBufferManager, VectorReplayBuffer
from tianshou.data.collector import TCollectStats
from tianshou.env import BaseVectorEnv

from trpo_ts.collectors.acting import Acting, Action, acting_of
from trpo_ts.collectors.episodes import FinishedEpisodes, RunningEpisodes
from trpo_ts.collectors.hidden_states import hidden_rows, joined_states, with_new_memory
from trpo_ts.collectors.infos import Infos, RowInfos
from trpo_ts.collectors.observation_rows import as_rows, observations_of, with_rows
from trpo_ts.collectors.recording import Recording, parts_of
from trpo_ts.collectors.simulators import Simulator, simulator_of
from trpo_ts.collectors.vector_envs import as_vector_env
from trpo_ts.runtime import without_validation
from trpo_ts.validation.environment_checks import check_separate_environments

__all__ = ["RolloutCollector"]


class RolloutCollector(Collector[TCollectStats], Generic[TCollectStats]):
    """Tianshou's ``Collector``, several times as fast beside the environments, with the same results bit for bit.

    But for ``CollectStats.lens``: it holds the lengths of whole episodes, where Tianshou counts since the last collect.
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
        policy: Policy | Algorithm[Any, Any],
        env: BaseVectorEnv | gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any],
        buffer: ReplayBuffer | None = None,
        exploration_noise: bool = False,
        on_episode_done_hook: Callable[..., Any] | None = None,
        on_step_hook: Callable[..., Any] | None = None,
        raise_on_nan_in_buffer: bool = ENABLE_VALIDATION,
        collect_stats_class: type[TCollectStats] = CollectStats,  # type: ignore[assignment]
    ) -> None:
        self._made_its_buffer = buffer is None
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
        check_separate_environments(self.env)
        self._said: set[str] = set()

    def _collect(
        self,
        n_step: int | None = None,
        n_episode: int | None = None,
        random: bool = False,
        render: float | None = None,
        gym_reset_kwargs: dict[str, Any] | None = None,
    ) -> TCollectStats:
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
        loop = _Loop(self, n_episode, gym_reset_kwargs or {})
        try:
            with without_validation():
                if n_step:
                    loop.collect_steps(-(-n_step // self.env_num))
                else:
                    loop.collect_episodes(n_episode or 0)
        finally:
            loop.end()
        stats = cast(TCollectStats, loop.stats())
        self.collect_step += stats.n_collected_steps
        self.collect_episode += stats.n_collected_episodes
        if n_step:
            self._pre_collect_obs_RO, self._pre_collect_info_R, self._pre_collect_hidden_state_RH = loop.now()
        else:
            self.reset_env(gym_reset_kwargs)
        return stats

    def _check_room(self, n_step: int | None) -> None:
        """Check that the buffer holds what is to be collected.

        :raises ValueError: when it does not; it names both numbers.
        """
        parts = parts_of(self.buffer)
        rows = -(-(n_step or 0) // self.env_num)
        room = min(part.maxsize for part in parts[: self.env_num])
        if rows > room and type(self.buffer) in _PLAIN_BUFFERS and not self._made_its_buffer:
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


@dataclass
class _Group:
    """Environments that step together: what is seen, said and remembered in them now, and what is done.

    :param envs: their numbers.
    :param everyone: whether they are all that there are.
    """

    envs: np.ndarray
    obs: Any
    infos: Infos
    state: Any
    everyone: bool
    action: Action | None = None


class _Loop:
    """One collect."""

    def __init__(self, collector: RolloutCollector[Any], n_episode: int | None, reset_kwargs: dict[str, Any]) -> None:
        self._n_episode, self._reset_kwargs = n_episode, reset_kwargs
        self._stats: CollectStats = collector.collect_stats_class()
        self._simulator: Simulator = simulator_of(collector.env)
        self._act: Acting = acting_of(collector.policy, exploration_noise=collector.exploration_noise)
        self._parts = parts_of(collector.buffer)[: collector.env_num]
        self._recording = Recording(collector.buffer)
        self._running: RunningEpisodes | None = None
        self._finished = FinishedEpisodes()
        self._steps = 0
        count = collector.env_num
        groups = [np.arange(min(count, n_episode))] if n_episode else self._simulator.groups
        obs, state = observations_of(collector._pre_collect_obs_RO), collector._pre_collect_hidden_state_RH
        infos = RowInfos(list(cast(np.ndarray, collector._pre_collect_info_R)))
        self._groups = [
            _Group(
                envs, obs[envs], infos[envs], None if state is None else hidden_rows(state, envs), len(envs) == count
            )
            for envs in groups
        ]

    def collect_steps(self, rounds: int) -> None:
        """Collect so many steps of each environment; one group acts while another simulates."""
        for group in self._groups:
            self._send(group)
        for left in reversed(range(rounds)):
            for group in self._groups:
                self._receive(group)
                if left:
                    self._send(group)

    def collect_episodes(self, count: int) -> None:
        """Collect so many episodes."""
        (group,) = self._groups
        while len(self._finished.lengths) < count:
            self._send(group)
            ended = self._receive(group)
            if ended.size:
                _leave_surplus(group, ended, count - len(self._finished.lengths))

    def end(self) -> None:
        """Write what is not in the buffer yet; after an error, what was collected before, as Tianshou's loop does."""
        try:
            self._simulator.abandon()
        finally:
            self._write()

    def _write(self) -> None:
        if self._running is not None:
            self._recording.write(self._running)

    def stats(self) -> CollectStats:
        """Return the statistics of the collect."""
        self._stats.n_collected_steps = self._steps
        self._stats.pred_dist_std_array = self._act.deviations()
        self._finished.into(self._stats)
        return self._stats

    def now(self) -> tuple[np.ndarray, np.ndarray, Any]:
        """Return observations, infos and hidden states, as Tianshou's collector keeps them between collects."""
        groups = self._groups
        return (
            np.concatenate([as_rows(group.obs) for group in groups]),
            np.concatenate([group.infos.as_dictionaries() for group in groups]),
            joined_states([group.state for group in groups]),
        )

    def _send(self, group: _Group) -> None:
        group.action = self._act(group.obs, group.infos, group.state)
        self._simulator.send(group.action.sent, None if group.everyone else group.envs)

    def _receive(self, group: _Group) -> np.ndarray:
        """Record a step, and return the rows of the environments in which it ended an episode."""
        action, envs = group.action, group.envs
        assert action is not None
        obs, rewards, terminated, truncated, infos = self._simulator.receive()
        done = terminated | truncated
        step = (group.obs, action.act, rewards, terminated, truncated, done, obs)
        self._recording.add(envs, infos, action.policy, step)
        if self._running is None:
            self._running = RunningEpisodes.of(self._parts, rewards)
        self._running.step(None if group.everyone else envs, rewards)
        self._steps += len(envs)
        group.obs, group.infos, group.state = obs, infos, action.state
        (ended,) = done.nonzero()
        if ended.size:
            self._begin_episodes(group, ended)
        if self._recording.is_large:
            self._write()
        return ended

    def _begin_episodes(self, group: _Group, ended: np.ndarray) -> None:
        """Count the episodes that ended, and begin new ones; ``ended`` are their rows."""
        assert self._running is not None
        envs = group.envs[ended]
        self._finished.add(self._running, envs)
        self._running.begin(envs)
        first, said = self._simulator.begin(envs, **self._reset_kwargs)
        group.obs = with_rows(group.obs, ended, first)
        group.infos = group.infos.with_rows(ended, said)
        if group.state is not None:
            group.state = with_new_memory(group.state, ended)


def _leave_surplus(group: _Group, ended: np.ndarray, wanted: int) -> None:
    """Leave out environments that have ended an episode, where more run than episodes are wanted.

    So each environment gives at least one episode, and short ones have no advantage.
    """
    surplus = len(group.envs) - wanted
    if surplus <= 0:
        return
    stay = np.ones(len(group.envs), dtype=bool)
    stay[ended[:surplus]] = False
    group.envs, group.everyone = group.envs[stay], False
    group.obs, group.infos = group.obs[stay], group.infos[stay]
    if group.state is not None:
        group.state = hidden_rows(group.state, stay)
