"""Tasks of EnvPool."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from gymnasium import spaces

from trpo_ts.envs import envpool_tasks
from trpo_ts.envs.envpool_tasks import check_envpool_task, envpool_spaces, has_envpool_task, make_envpool


def test_without_envpool_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    assert not has_envpool_task("CartPole-v1")
    with pytest.raises(ValueError, match=r'pip install "trpo-ts\[envpool\]"'):
        check_envpool_task("CartPole-v1")


def test_its_tasks_its_spaces_and_its_seeds(recwarn):
    pytest.importorskip("envpool")
    check_envpool_task("CartPole-v1")
    with pytest.raises(ValueError, match="EnvPool has no task 'PointMass1D-v0'"):
        check_envpool_task("PointMass1D-v0")
    observation_space, action_space = envpool_spaces("CartPole-v1")
    assert observation_space.shape == (4,)
    assert isinstance(action_space, spaces.Discrete)
    starts = [make_envpool("CartPole-v1", 3, seed).reset()[0] for seed in (1, 1, 2)]
    assert starts[0].shape == (3, 4)
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])
    assert make_envpool("CartPole-v1", 1, 0, max_episode_steps=7).spec.config.max_episode_steps == 7
    assert not [warning for warning in recwarn if "precision" in str(warning.message)]


def test_a_thread_for_every_eight_environments_and_at_most_the_cores(monkeypatch):
    pytest.importorskip("envpool")
    monkeypatch.setattr(envpool_tasks, "_usable_cores", lambda: 3)
    found = [make_envpool("CartPole-v1", count, 0).config["num_threads"] for count in (1, 15, 16, 40)]
    assert found == [1, 1, 2, 3]
    assert make_envpool("CartPole-v1", 16, 0, threads=1).config["num_threads"] == 1
