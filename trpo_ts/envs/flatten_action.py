"""The wrapper that lets Tianshou act in environments with Tuple and Dict actions."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np

from trpo_ts.envs.flat_action import FlatAction

__all__ = ["FlattenAction"]


class FlattenAction(gym.ActionWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """An environment with structured actions that takes flat ones, in a :class:`FlatAction` space.

    Tianshou's policies and buffers take arrays only. :func:`trpo_ts.policies.make_policy` reads the structure from
    the flat space.

    :param env: the environment.
    :raises ValueError: for an action space that has no flat form.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.action_space = FlatAction(env.action_space)

    @property
    def unwrapped(self) -> gym.Env[Any, Any]:
        """This wrapper itself.

        Tianshou's ``DummyVectorEnv`` tells collectors the action space of the unwrapped environment, which would be
        the structured one. The base environment is ``wrapper.env.unwrapped``.
        """
        return self

    def action(self, action: np.ndarray) -> Any:
        """Return the structured action that the environment gets."""
        return cast(FlatAction, self.action_space).unflatten(action)
