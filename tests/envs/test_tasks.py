"""Tasks by their names."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation

from trpo_ts.envs import FlattenAction, TupleToDictObservation
from trpo_ts.envs.tasks import backend_of, extra_of, find_task, make_task, spaces_of_task


def test_structured_spaces_are_made_flat():
    env = make_task("little_tasks:TupleTask-v0")
    assert isinstance(env, TupleToDictObservation)
    assert isinstance(env.env, FlattenAction)
    assert isinstance(env.observation_space, spaces.Dict)
    obs, _ = env.reset(seed=0)
    assert obs.keys() == {"0", "1"}
    env.step(np.array([0.5, 1.0]))


def test_other_tasks_are_left_as_they_are():
    env = make_task("CartPole-v1")
    assert env.spec == gym.make("CartPole-v1", disable_env_checker=True).spec


def test_vectors_are_stacked_as_rows():
    env = make_task("CartPole-v1", frame_stack=3)
    assert isinstance(env, FrameStackObservation)
    assert env.observation_space.shape == (3, 4)


@pytest.mark.parametrize("task", ["Catch-v0", "little_tasks:DictTask-v0"])
def test_what_cannot_be_stacked_is_refused(task):
    with pytest.raises(ValueError, match="frame_stack must be 1"):
        make_task(task, frame_stack=2)


def test_large_images_are_made_smaller():
    assert make_task("Catch-v0", image_side=6).observation_space.shape == (6, 6, 1)
    assert make_task("Catch-v0", image_side=84).observation_space.shape == (10, 10, 1)
    assert make_task("CartPole-v1", image_side=84).observation_space.shape == (4,)


class Endless(gym.Env):
    """Its episodes have no end."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


gym.register("Endless-v0", entry_point=Endless)


@pytest.mark.parametrize(
    ("task", "options", "steps"),
    [("Endless-v0", {}, 10_000), ("Endless-v0", {"max_episode_steps": 7}, 7), ("CartPole-v1", {}, 500)],
)
def test_every_episode_has_an_end(task, options, steps):
    assert make_task(task, **options).spec.max_episode_steps == steps
    if task == "Endless-v0":
        env = make_task(task, **options)
        env.reset(seed=0)
        ends = [env.step(0)[3] for _ in range(steps)]
        assert ends == [False] * (steps - 1) + [True]


@pytest.mark.parametrize(
    "options", [{"max_episode_steps": 0}, {"frame_stack": 0}, {"image_side": 3}, {"frame_stack": True}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be an integer >= "):
        make_task("Catch-v0", **options)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("CartPol-v1", "did you mean CartPole-v1"),
        ("CartPole-v77", "did you mean CartPole-v1"),
        ("nothing of the kind", "trpo-ts tasks lists them"),
        ("no_module:CartPole-v1", "No module named 'no_module'"),
        ("little_tasks:NoTask-v0", "little_tasks:NoTask-v0"),
        ("namespace/CartPole-v1", "namespace/CartPole-v1"),
        ("", "got ''"),
    ],
)
def test_unknown_tasks_are_refused(task, message):
    with pytest.raises(ValueError, match=message):
        find_task(task)


def test_an_older_version_of_a_task_makes_no_noise(recwarn):
    pytest.importorskip("mujoco")
    make_task("Hopper-v4").close()
    assert not [str(warning.message) for warning in recwarn if "out of date" in str(warning.message)]


def test_extras_are_known_by_the_entry_point():
    assert extra_of(gym.spec("Ant-v5")) == "mujoco"
    assert extra_of(gym.spec("BipedalWalker-v3")) == "box2d"
    assert extra_of(gym.spec("CartPole-v1")) is None


def test_spaces_of_a_task():
    observation_space, action_space = spaces_of_task("CartPole-v1", "gymnasium", frame_stack=2)
    assert observation_space.shape == (2, 4)
    assert action_space == spaces.Discrete(2)


def test_backends():
    assert backend_of("CartPole-v1") == backend_of("CartPole-v1", "gymnasium") == "gymnasium"
    with pytest.raises(ValueError, match="env_backend must be one of"):
        backend_of("CartPole-v1", "isaac")
    with pytest.raises(ValueError, match="did you mean CartPole-v1"):
        backend_of("CartPol-v1")
