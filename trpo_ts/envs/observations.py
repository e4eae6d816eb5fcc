"""Observations in a form that Tianshou's collector takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

__all__ = ["TupleToDictObservation"]


class TupleToDictObservation(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Tuples of observations as Dicts with the keys ``"0"``, ``"1"`` and so on, inside of Dicts and Tuples too.

    Tianshou's vectorised environments refuse Tuples, and its batches lose those inside of Dicts.

    :param env: the environment, whose observations hold Tuples.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = _space(env.observation_space)

    def observation(self, observation: Any) -> Any:
        """Return the observation without Tuples."""
        return _value(observation)


def _space(space: gym.Space[Any]) -> gym.Space[Any]:
    if isinstance(space, spaces.Tuple):
        return spaces.Dict({str(i): _space(entry) for i, entry in enumerate(space.spaces)})
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _space(entry) for key, entry in space.spaces.items()})
    return space


def _value(value: Any) -> Any:
    if isinstance(value, tuple):
        return {str(i): _value(entry) for i, entry in enumerate(value)}
    if isinstance(value, Mapping):
        return {key: _value(entry) for key, entry in value.items()}
    return value
