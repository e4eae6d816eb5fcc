"""Vector environments of gymnasium and EnvPool with the interface of Tianshou's.

Tianshou resets the environments whose episodes have ended by a call of its own, before the next step. The vectors of
others do it themselves, at the step that ends an episode or at the one after it. Here each of them begins its new
episode at once, so that every step of every environment is a transition, and none is spent on a reset.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from tianshou.env import BaseVectorEnv

from trpo_ts.collectors.infos import ColumnInfos, Infos, RowInfos
from trpo_ts.collectors.observations import as_rows, observations_of, stacked_observations, with_rows

__all__ = ["EnvPoolVectorEnv", "ForeignVectorEnv", "GymnasiumVectorEnv", "as_vector_env"]


def as_vector_env(env: Any) -> Any:
    """Return an environment as Tianshou's collectors take it.

    :param env: a vector environment of Tianshou's, which is returned as it is; one of gymnasium's, in any of its
        autoreset modes; or one of EnvPool's, made by ``envpool.make_gymnasium``. A single environment is returned too.
    :raises ValueError: for a vector that cannot reset some of its environments without the others.
    """
    if isinstance(env, BaseVectorEnv):
        return env
    if any(base.__module__.startswith("envpool.") for base in type(env).__mro__):
        return EnvPoolVectorEnv(env)
    return GymnasiumVectorEnv(env) if isinstance(env, VectorEnv) else env


class ForeignVectorEnv(BaseVectorEnv):
    """Tianshou's interface to a vector of another library.

    :param venv: the vector.
    """

    # No call of the base class's constructor, which builds workers.
    def __init__(self, venv: Any) -> None:
        self.venv = venv
        self.env_num = int(venv.num_envs)
        self.is_async = False
        self.is_closed = False

    def __getattribute__(self, key: str) -> Any:
        return object.__getattribute__(self, key)  # the base class's asks its workers

    def __len__(self) -> int:
        """Return the number of environments."""
        return self.env_num

    @property
    def observation_space(self) -> list[gym.Space[Any]]:
        """The observation space of each environment."""
        return [self.venv.single_observation_space] * self.env_num

    @property
    def action_space(self) -> list[gym.Space[Any]]:
        """The action space of each environment."""
        return [self.venv.single_action_space] * self.env_num

    @property
    def metadata(self) -> Any:
        """The vector's metadata."""
        return self.venv.metadata

    @property
    def spec(self) -> Any:
        """The vector's specification."""
        return self.venv.spec

    def reset(self, env_id: Any = None, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Reset some environments; the keywords are those of the vector's ``reset``."""
        obs, infos = self.begin(None if env_id is None else np.asarray(self._wrap_id(env_id)), **kwargs)
        return as_rows(obs), infos.as_dictionaries()

    def step(self, action: Any, id: Any = None) -> Any:
        """Step some environments, and return what Tianshou's vectors do."""
        ids = None if id is None else np.asarray(self._wrap_id(id))
        obs, *numbers, infos = self.transition(np.asarray(action), ids)
        return as_rows(obs), *numbers, infos.as_dictionaries()

    @abstractmethod
    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        """Begin new episodes; see :class:`trpo_ts.collectors.simulators.Simulator`."""

    @abstractmethod
    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        """Step; see :class:`trpo_ts.collectors.simulators.Simulator`."""

    def seed(self, seed: int | list[int] | None = None) -> list[Any]:
        """Seed the environments, as far as resetting them with a seed does."""
        self.venv.reset(seed=seed)
        return [None if seed is None else seed + i if isinstance(seed, int) else seed[i] for i in range(len(self))]

    def render(self, **kwargs: Any) -> Any:
        """Render as the vector does."""
        return self.venv.render(**kwargs)

    def close(self) -> None:
        """Close all environments."""
        self.venv.close()
        self.is_closed = True

    def get_env_attr(self, key: str, id: Any = None) -> list[Any]:
        """Return an attribute of some environments, where the vector can."""
        found = self.venv.get_attr(key)
        return [found[i] for i in self._wrap_id(id)]

    def set_env_attr(self, key: str, value: Any, id: Any = None) -> None:
        """Set an attribute of some environments, where the vector can."""
        values = list(self.venv.get_attr(key))
        for i in self._wrap_id(id):
            values[i] = value
        self.venv.set_attr(key, values)


class GymnasiumVectorEnv(ForeignVectorEnv):
    """A vector of gymnasium's, in any of its autoreset modes.

    It steps all of its environments together: those that a caller leaves out, as the collector does towards the end of
    ``n_episode``, repeat the action of another, and nothing of them is returned.

    :param venv: a ``SyncVectorEnv`` or an ``AsyncVectorEnv``, wrapped or not.
    :raises ValueError: for another vector, which may not be able to reset some of its environments only.
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(venv)
        innermost = venv.unwrapped
        if not isinstance(innermost, SyncVectorEnv | AsyncVectorEnv):
            raise ValueError(
                "env must be a gymnasium.vector.SyncVectorEnv or AsyncVectorEnv, which can reset one environment and "
                f"leave the others, got {type(innermost).__name__}; build one of these, or a "
                "tianshou.env.DummyVectorEnv, of single environments"
            )
        mode = AutoresetMode(venv.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if (
            mode is AutoresetMode.NEXT_STEP
            and isinstance(innermost, AsyncVectorEnv)
            and not innermost.shared_memory  # without it a worker that was reset resets again at its next step
        ):
            raise ValueError(
                "env must have shared_memory=True with AutoresetMode.NEXT_STEP, got an AsyncVectorEnv without; set it, "
                "or autoreset_mode=AutoresetMode.SAME_STEP"
            )
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._fresh = bool(innermost.copy)
        self._begun: tuple[Any, Any, np.ndarray] | None = None

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        """Begin new episodes; where the vector has done so already, return them."""
        begun, self._begun = self._begun, None
        if begun is not None and ids is not None and not kwargs and begun[2][ids].all():
            return self._chosen(begun[0], begun[1], ids)
        if ids is not None:
            mask = np.zeros(len(self), dtype=np.bool_)
            mask[ids] = True
            kwargs["options"] = {**(kwargs.get("options") or {}), "reset_mask": mask}
        obs, infos = self.venv.reset(**kwargs)
        return self._chosen(obs, infos, ids)

    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        """Step all environments, and return what happened in some."""
        chosen = None if ids is None or len(ids) == len(self) else ids
        if chosen is not None:
            every = np.repeat(actions[:1], len(self), axis=0)
            every[chosen] = actions
            actions = every
        obs, rewards, terminated, truncated, infos = self.venv.step(actions)
        done = terminated | truncated
        rows = np.arange(len(self)) if chosen is None else chosen
        seen, said = self._chosen(obs, infos, chosen)
        ended = done[rows]
        if self._same_step and ended.any():
            self._begun = obs, infos, done
            last = [(infos["final_obs"][i], _row(infos["final_info"], i)) for i in rows[ended]]
            seen = with_rows(seen, ended, stacked_observations([final for final, _ in last]))
            said = said.with_rows(ended, RowInfos.of([info for _, info in last]))
        elif not self._same_step and chosen is not None and (left_out := np.setdiff1d(np.flatnonzero(done), chosen)).size:
            self.begin(left_out)
        return seen, rewards[rows], terminated[rows], truncated[rows], said.with_key("env_id", rows)

    def _chosen(self, obs: Any, infos: dict[str, Any], ids: np.ndarray | None) -> tuple[Any, Infos]:
        """Return the observations and infos of some environments."""
        obs = observations_of(obs, fresh=self._fresh)
        columns = _complete_columns(infos)
        said = (
            RowInfos.of([_row(infos, i) for i in range(len(self))])
            if columns is None or "final_info" in infos
            else ColumnInfos(columns, len(self))
        )
        return (obs, said) if ids is None else (obs[ids], said[ids])


def _complete_columns(infos: dict[str, Any]) -> dict[str, Any] | None:
    """Return infos without their masks; None where some environments did not say all."""
    columns = {}
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            if not np.all(value):
                return None
        elif isinstance(value, dict):
            inner = _complete_columns(value)
            if inner is None:
                return None
            columns[key] = inner
        else:
            columns[key] = np.array(value)
    return columns


def _row(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """Return what one environment said, without what belongs to the step before a reset."""
    return {
        key: _row(value, index) if isinstance(value, dict) else value[index]
        for key, value in infos.items()
        if key not in ("final_obs", "final_info")
        and not (key.startswith("_") and key[1:] in infos)
        and infos.get(f"_{key}", _EVERY)[index]
    }


class _Every:
    def __getitem__(self, index: int) -> bool:
        return True


_EVERY = _Every()


class EnvPoolVectorEnv(ForeignVectorEnv):
    """A vector of EnvPool's.

    :param venv: what ``envpool.make_gymnasium`` returned.
    :raises ValueError: for one in its asynchronous mode, whose steps return some of the environments, in any order.
    """

    def __init__(self, venv: Any) -> None:
        super().__init__(venv)
        if venv.is_async:
            raise ValueError(
                f"env must be a synchronous EnvPool, got batch_size={venv.config['batch_size']} of "
                f"{venv.config['num_envs']} environments; leave batch_size out"
            )

    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        """Begin new episodes. A seed is given to ``envpool.make_gymnasium``, and cannot be changed here.

        :raises ValueError: for any keyword.
        """
        if kwargs:
            raise ValueError(
                f"EnvPool's reset takes no keywords, got {sorted(kwargs)}; give envpool.make_gymnasium the seed"
            )
        obs, infos = self.venv.reset() if ids is None else self.venv.reset(ids)
        return observations_of(obs), ColumnInfos(infos, len(self) if ids is None else len(ids))

    def transition(
        self, actions: np.ndarray, ids: np.ndarray | None
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]:
        """Step some environments."""
        obs, rewards, terminated, truncated, infos = self.venv.step(actions, ids)
        return observations_of(obs), rewards, terminated, truncated, ColumnInfos(infos, len(rewards))

    def seed(self, seed: int | list[int] | None = None) -> list[Any]:
        """Return no seeds: those of EnvPool are fixed when it is made."""
        return [None] * len(self)
