"""What the vector environments of other libraries have in common here."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from tianshou.env import BaseVectorEnv

from trpo_ts.collectors.infos import Infos
from trpo_ts.collectors.observation_rows import as_rows

__all__ = ["ForeignVectorEnv", "Transition"]

Transition = tuple[Any, np.ndarray, np.ndarray, np.ndarray, Infos]
"""Next observations, rewards, ``terminated``, ``truncated`` and infos, a row for each environment that was stepped."""


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
        self.send(np.asarray(action), ids)
        obs, *numbers, infos = self.receive()
        return as_rows(obs), *numbers, infos.as_dictionaries()

    @property
    def groups(self) -> list[np.ndarray]:
        """See :class:`trpo_ts.collectors.simulators.Simulator`."""
        return [np.arange(len(self))]

    @abstractmethod
    def begin(self, ids: np.ndarray | None, **kwargs: Any) -> tuple[Any, Infos]:
        """See :class:`trpo_ts.collectors.simulators.Simulator`."""

    @abstractmethod
    def send(self, actions: np.ndarray, ids: np.ndarray | None) -> None:
        """See :class:`trpo_ts.collectors.simulators.Simulator`."""

    @abstractmethod
    def receive(self) -> Transition:
        """See :class:`trpo_ts.collectors.simulators.Simulator`."""

    def abandon(self) -> None:
        """See :class:`trpo_ts.collectors.simulators.Simulator`."""

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
