"""Environments whose numbers are checked."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from runs import ENVS, HORIZON, bits, make_run
from tianshou.env import DummyVectorEnv, VectorEnvNormObs

from trpo_ts.training import FiniteVectorEnv


class Faulty(gym.Env):
    """A random walk that gives a wrong number at one step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, field=None, value=np.nan, at=10):
        self.field, self.value, self.at, self.steps = field, value, at, 0

    def observation(self):
        obs = self.np_random.normal(size=2).astype(np.float32)
        if self.field == "observation" and self.steps == self.at:
            obs[1] = self.value
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        reward = self.value if self.field == "reward" and self.steps == self.at else float(action[0])
        return self.observation(), reward, False, self.steps % HORIZON == 0, {}


gym.register("Faulty-v0", entry_point=Faulty)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["observation", "reward"])
def test_a_number_that_is_not_finite_is_stopped_at_its_source(field, value):
    environments = [Faulty] * (ENVS - 1) + [lambda: Faulty(field, value)]
    algorithm, params = make_run("Faulty-v0", vector=lambda _: DummyVectorEnv(environments), tests=False)
    envs = params.training_collector.env
    before = bits(dict(algorithm.state_dict()))
    said = f"the {field} of an environment must be finite, got .*{value}.* from environment {ENVS - 1} after 10 steps"
    params.epoch_num_steps = params.collection_step_num_env_steps = 20 * ENVS
    with pytest.raises(ValueError, match=said):
        algorithm.run_training(params)
    assert bits(dict(algorithm.state_dict())) == before
    assert np.isfinite(envs.obs_rms.mean).all()
    assert np.isfinite(envs.obs_rms.var).all()


def test_a_first_observation_is_checked_too():
    envs = FiniteVectorEnv(DummyVectorEnv([Faulty, lambda: Faulty("observation", at=0)]))
    with pytest.raises(ValueError, match="from environment 1 after 0 steps"):
        VectorEnvNormObs(envs).reset()
    with pytest.raises(ValueError, match="from environment 1 after"):
        envs.reset([1])


class Nested(Faulty):
    observation_space = gym.spaces.Dict(
        position=Faulty.observation_space, image=gym.spaces.Box(0, 255, (2, 2), np.uint8)
    )

    def observation(self):
        return {"position": super().observation(), "image": np.zeros((2, 2), np.uint8)}


def test_dictionaries_are_looked_into_and_sound_steps_pass_unchanged():
    envs = FiniteVectorEnv(DummyVectorEnv([Nested, lambda: Nested("observation", at=2)]))
    twin = DummyVectorEnv([Nested, Nested])
    envs.seed(0)
    twin.seed(0)
    assert bits(envs.reset()) == bits(twin.reset())
    action = np.zeros((2, 1), np.float32)
    assert bits(envs.step(action)) == bits(twin.step(action))
    assert bits(envs.step(action[:1], [0])) == bits(twin.step(action[:1], [0]))
    with pytest.raises(ValueError, match=r"(?s)position.*nan.*from environment 1"):
        envs.step(action)
