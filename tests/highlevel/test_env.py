"""Environments of the high-level API."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from experiments import environments, make_builder
from gymnasium import spaces
from rollouts import Actor, Mlp
from tianshou.highlevel.env import EnvFactoryRegistered as TianshouEnvFactory
from tianshou.highlevel.env import EnvMode, VectorEnvType
from tianshou.highlevel.module.actor import ActorFactory
from torch.distributions import Bernoulli, Independent

from trpo_ts.highlevel import EnvFactoryRegistered


class Plain(gym.Env):
    """One-step episodes that reward some action, in any spaces."""

    def __init__(self, action_space, render_mode=None):
        self.observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = action_space
        self.seen = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        assert np.isfinite(action).all()
        self.seen.append(action)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(np.sum(action)), True, False, {}


gym.register("Plain-v0", Plain)


@pytest.mark.parametrize("given", [True, False])
def test_unbounded_actions_are_passed_on_as_they_are(given):
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    builder = make_builder(env_factory=environments("Plain-v0", action_space=space, disable_env_checker=True))
    if given:
        builder.with_actor_factory_default((8,), continuous_unbounded=True)
    result = builder.build().run()
    actions = np.array([a for seen in result.world.envs.training_envs.get_env_attr("seen") for a in seen])
    assert np.abs(actions).max() > 1.0


class BitsActor(ActorFactory):
    """A policy for binary vectors, for which Tianshou has no class of environments."""

    def create_module(self, envs, device):
        return Actor(Mlp((3, 8, envs.get_action_shape()[0])), None).to(device)

    def create_dist_fn(self, envs):
        return bits


def bits(logits):
    return Independent(Bernoulli(logits=logits), 1)


def test_spaces_without_a_class_of_tianshous_work():
    env_factory = environments("Plain-v0", action_space=spaces.MultiBinary(4), disable_env_checker=True)
    result = make_builder(env_factory=env_factory, epochs=5).with_actor_factory(BitsActor()).build().run()
    assert result.trainer_result.best_reward > 2.5  # by chance it is 2


def test_normalised_observations_must_be_arrays(monkeypatch):
    monkeypatch.setattr(Plain, "step", None)
    gym.register("Dict-v0", lambda render_mode=None: DictEnv())
    with pytest.raises(ValueError, match="obs_norm must be False for the observation space Dict"):
        environments("Dict-v0", obs_norm=True, disable_env_checker=True).create_envs(1, 1)


class DictEnv(gym.Env):
    observation_space = spaces.Dict({"a": spaces.Discrete(2)})
    action_space = spaces.Discrete(2)


@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_environments_are_seeded_as_tianshous(task):
    make = {"task": task, "venv_type": VectorEnvType.DUMMY, "render_mode_watch": None}
    ours, theirs = (
        factory(**make).create_envs(2, 3, create_watch_env=True, seed=5)
        for factory in (EnvFactoryRegistered, TianshouEnvFactory)
    )
    assert type(ours) is type(theirs)
    for name in ("training_envs", "test_envs", "watch_env"):
        assert np.array_equal(getattr(ours, name).reset()[0], getattr(theirs, name).reset()[0])


def test_only_training_environments_gather_statistics():
    envs = environments(obs_norm=True).create_envs(2, 2, create_watch_env=True, seed=0)
    envs.test_envs.reset()
    envs.watch_env.reset()
    assert envs.training_envs.get_obs_rms().count == 0
    envs.training_envs.reset()
    assert envs.test_envs.get_obs_rms().count == envs.watch_env.get_obs_rms().count == 2
    assert environments(obs_norm=True).create_venv(1, EnvMode.TEST).update_obs_rms is False
