"""The factory of an experiment's environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from tianshou.env import BaseVectorEnv, VectorEnvNormObs
from tianshou.highlevel import env as tianshou_env
from tianshou.highlevel.env import (
    ContinuousEnvironments,
    DiscreteEnvironments,
    Environments,
    EnvMode,
    EnvType,
    VectorEnvType,
)

__all__ = ["EnvFactoryRegistered"]


class EnvFactoryRegistered(tianshou_env.EnvFactoryRegistered):
    """Tianshou's factory of registered environments, for any spaces, with normalised observations if wanted.

    :param task: the environment's name in gymnasium's registry.
    :param venv_type: the kind of vectorised environment.
    :param obs_norm: whether observations are centred and scaled by running statistics. Training environments gather
        them, test environments use them, and experiments of this package persist and restore them.
    :param options: the other arguments of Tianshou's class, among them those of ``gymnasium.make``.
    """

    def __init__(
        self, *, task: str, venv_type: VectorEnvType = VectorEnvType.DUMMY, obs_norm: bool = False, **options: Any
    ) -> None:
        super().__init__(task=task, venv_type=venv_type, **options)
        self.obs_norm = obs_norm

    def create_venv(self, num_envs: int, mode: EnvMode, seed: int | None = None) -> BaseVectorEnv:
        """Return vectorised environments of the mode, seeded."""
        venv = super().create_venv(num_envs, mode, seed=seed)
        return VectorEnvNormObs(venv, update_obs_rms=mode == EnvMode.TRAINING) if self.obs_norm else venv

    def create_envs(
        self, num_training_envs: int, num_test_envs: int, create_watch_env: bool = False, seed: int | None = None
    ) -> Environments:
        """Return the environments of an experiment, seeded as Tianshou seeds them.

        :raises ValueError: for normalised observations that are no arrays of numbers.
        """
        rng = self._create_rng(seed)
        env = self.create_env(EnvMode.TRAINING)
        if self.obs_norm and not isinstance(env.observation_space, spaces.Box):
            raise ValueError(f"obs_norm must be False for the observation space {env.observation_space}, got True")
        training = self.create_venv(num_training_envs, EnvMode.TRAINING, seed=self._next_seed(rng))
        test = self.create_venv(num_test_envs, EnvMode.TEST, seed=self._next_seed(rng))
        watch = self.create_venv(1, EnvMode.WATCH, seed=self._next_seed(rng)) if create_watch_env else None
        if self.obs_norm:
            for venv in (test, watch):
                if venv is not None:
                    venv.set_obs_rms(training.get_obs_rms())
        return _kind(env)(env, training, test, watch)


def _kind(env: gym.Env[Any, Any]) -> type[Environments]:
    if isinstance(env.observation_space, spaces.Box | spaces.Discrete):
        if isinstance(env.action_space, spaces.Box):
            return ContinuousEnvironments
        if isinstance(env.action_space, spaces.Discrete):
            return DiscreteEnvironments
    return _AnyEnvironments


class _AnyEnvironments(Environments):
    """Environments with spaces for which Tianshou has no class; networks are built from the spaces themselves."""

    def get_action_shape(self) -> Any:
        return self.get_action_space().shape

    def get_observation_shape(self) -> Any:
        return self.get_observation_space().shape

    def get_type(self) -> EnvType:
        return EnvType.CONTINUOUS if isinstance(self.get_action_space(), spaces.Box) else EnvType.DISCRETE
