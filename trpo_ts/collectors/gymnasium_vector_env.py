"""gymnasium's vectors, in any of their autoreset modes, with the interface of Tianshou's.

Tianshou resets the environments whose episodes have ended by a call of its own, before the next step. gymnasium's
vectors do it at the step that ends an episode, at the one after it, or when they are asked to. Here each environment
begins its new episode at once, so that every step of every environment is a transition, and none is spent on a reset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from trpo_ts.collectors.foreign_vector_env import ForeignVectorEnv, Transition
from trpo_ts.collectors.infos import ColumnInfos, Infos, RowInfos
from trpo_ts.collectors.observation_rows import observations_of, stacked_observations, with_rows

__all__ = ["GymnasiumVectorEnv"]


class GymnasiumVectorEnv(ForeignVectorEnv):
    """A vector of gymnasium's, in any of its autoreset modes.

    It steps all of its environments together: those that a caller leaves out, as the collector does towards the end of
    ``n_episode``, repeat the action of another, and nothing of them is returned.

    :param venv: a ``SyncVectorEnv`` or an ``AsyncVectorEnv``.
    :raises ValueError: for another vector, which may not be able to reset some of its environments only, and for one
        within a wrapper for vectors: most of these count on gymnasium's own resets.
    """

    def __init__(self, venv: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(venv)
        innermost = venv.unwrapped
        if innermost is not venv:
            raise ValueError(
                f"env must be a SyncVectorEnv or AsyncVectorEnv itself, got it within {type(venv).__name__}; wrap the "
                "single environments, or take tianshou.env.VectorEnvNormObs or trpo_ts.collectors.VectorEnvNormReward "
                "around as_vector_env(...)"
            )
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
        self._sent: tuple[np.ndarray, np.ndarray | None] = np.empty(0), None
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

    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        """Take the actions of some environments."""
        self._sent = actions, None if ids is None or len(ids) == len(self) else ids

    def receive(self) -> Transition:
        """Step all environments, and return what happened in those that were given actions."""
        actions, chosen = self._sent
        if chosen is not None:
            asked, actions = actions, np.repeat(actions[:1], len(self), axis=0)
            actions[chosen] = asked
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
        elif chosen is not None and not self._same_step:
            left_out = np.setdiff1d(np.flatnonzero(done), chosen)
            if left_out.size:
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
    columns: dict[str, Any] = {}
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
