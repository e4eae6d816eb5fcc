"""EnvPool's vectors with the interface of Tianshou's."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from trpo_ts.collectors.foreign_vector_env import ForeignVectorEnv, Transition
from trpo_ts.collectors.infos import ColumnInfos, Infos, concatenated_infos
from trpo_ts.collectors.observation_rows import joined_observations, observations_of
from trpo_ts.envs.envpool_tasks import quiet_spaces

__all__ = ["EnvPoolVectorEnv"]


class EnvPoolVectorEnv(ForeignVectorEnv):
    """A vector of EnvPool's.

    :param venv: what ``envpool.make_gymnasium`` returned.
    :param double_buffered: whether it is made anew as two pools, of half of the environments each: while one of them
        simulates, a :class:`trpo_ts.collectors.RolloutCollector` acts in the other. Episodes are the same.
    :raises ValueError: for a pool in its asynchronous mode, whose steps return some of the environments, in any order;
        and for one with fewer than two environments, or one that renders, when it is to be made anew.
    """

    def __init__(self, venv: Any, *, double_buffered: bool = False) -> None:
        super().__init__(venv)
        if venv.is_async:
            raise ValueError(
                f"env must be a synchronous EnvPool, got batch_size={venv.config['batch_size']} of "
                f"{venv.config['num_envs']} environments; leave batch_size out"
            )
        self._count = 2 if double_buffered else 1
        if len(self) < self._count:
            raise ValueError(f"double_buffered needs an EnvPool of at least 2 environments, got {len(self)}")
        self._take([venv])
        self._under_way: deque[list[tuple[Any, int]]] = deque()
        if double_buffered:
            self.seed(list(venv.config["env_seed"]) or int(venv.config["seed"]))

    @property
    def groups(self) -> list[np.ndarray]:
        """The environments of each pool."""
        return self._groups

    def begin(self, ids: np.ndarray | None, seed: int | list[int] | None = None, **kwargs: Any) -> tuple[Any, Infos]:
        """Begin new episodes.

        EnvPool's seeds are fixed when it is made, so with a seed for all environments it is made anew.

        :raises ValueError: for a seed of some environments only, and for any other keyword.
        """
        if kwargs or (seed is not None and ids is not None):
            raise ValueError(
                f"reset of EnvPool's environments takes a seed of all of them, got {sorted(kwargs) or 'one of some'}; "
                "give options to envpool.make_gymnasium"
            )
        if seed is not None:
            self.seed(seed)
        begun = [(*pool.reset(local), first, len(local)) for pool, first, local, _ in self._split(ids)]
        obs = joined_observations([observations_of(obs) for obs, _, _, _ in begun])
        return obs, concatenated_infos([_infos(infos, first, count) for _, infos, first, count in begun])

    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        """Let the environments simulate, in EnvPool's threads."""
        parts = self._split(ids)
        for pool, _, local, rows in parts:
            pool.send(actions[rows], local)
        self._under_way.append([(pool, first) for pool, first, _, _ in parts])

    def abandon(self) -> None:
        """See :class:`trpo_ts.collectors.simulators.Simulator`."""
        while self._under_way:
            self.receive()

    def receive(self) -> Transition:
        """Wait for the environments that were sent first."""
        parts = [_received(pool, first) for pool, first in self._under_way.popleft()]
        if len(parts) == 1:
            return parts[0]
        obs, rewards, terminated, truncated, infos = zip(*parts, strict=True)
        numbers = (np.concatenate(column) for column in (rewards, terminated, truncated))
        return joined_observations(obs), *numbers, concatenated_infos(infos)

    def seed(self, seed: int | list[int] | None = None) -> list[Any]:
        """Make the environments anew with a seed: a number for the first, which the others follow, or one for each.

        :raises ValueError: when they render, since a new pool would not.
        """
        if seed is None:
            return [None] * len(self)
        if self.venv.render_mode is not None:
            raise ValueError(
                f"seed cannot be changed of an EnvPool with render_mode={self.venv.render_mode!r}; make a new one"
            )
        seeds = [seed + i for i in range(len(self))] if isinstance(seed, int) else list(seed)
        old = self._pools
        self._take([_made_anew(self.venv, part.tolist()) for part in np.array_split(seeds, self._count)])
        self.venv = self._pools[0]
        for pool in old:
            pool.close()
        return seeds

    def close(self) -> None:
        """Close all environments."""
        for pool in self._pools:
            pool.close()
        self.is_closed = True

    def _take(self, pools: list[Any]) -> None:
        """Make these the pools, among which the environments are divided in their order."""
        self._pools = pools
        self._groups = list(np.array_split(np.arange(len(self)), len(pools)))
        self._whole: list[_Part] = [
            (pool, group[0], (group - group[0]).astype(np.int32), slice(group[0], group[-1] + 1))
            for pool, group in zip(pools, self._groups, strict=True)
        ]

    def _split(self, ids: np.ndarray | None) -> list[_Part]:
        """Return each pool with some of the environments: its first one, those in it, and their rows in ``ids``."""
        if ids is None or len(ids) == len(self):
            return self._whole
        parts: list[_Part] = []
        for pool, group in zip(self._pools, self._groups, strict=True):
            rows = np.flatnonzero((ids >= group[0]) & (ids <= group[-1]))
            if rows.size:
                parts.append((pool, group[0], (ids[rows] - group[0]).astype(np.int32), rows))
        return parts


_Part = tuple[Any, int, np.ndarray, slice | np.ndarray]
"""A pool, its first environment among all, some of its environments by its own numbers, and their rows."""


def _made_anew(pool: Any, seeds: list[int]) -> Any:
    """Return a pool like another, with an environment for each seed."""
    count = len(seeds)
    config = {**pool.config, "num_envs": count, "batch_size": count, "seed": seeds[0], "env_seed": seeds}
    with quiet_spaces():
        made = type(pool)(type(pool.spec)(type(pool.spec).gen_config(**config)))
        _ = made.observation_space, made.action_space  # made at their first use, and then kept
    return made


def _received(pool: Any, first: int) -> Transition:
    """Wait for a pool, whose first environment among all is given, and return what happened."""
    obs, rewards, terminated, truncated, infos = pool.recv(reset=False, return_info=True)
    return observations_of(obs), rewards, terminated, truncated, _infos(infos, first, len(rewards))


def _infos(columns: dict[str, Any], first: int, count: int) -> Infos:
    """Return a pool's infos, with the numbers that its environments have among all."""
    if first:
        columns["env_id"] = columns["env_id"] + first
        columns["players"] = {**columns["players"], "env_id": columns["players"]["env_id"] + first}
    return ColumnInfos(columns, count)
