"""Configurations as values."""

from __future__ import annotations

import json

import pytest

from trpo_ts.critics import LBFGSFit
from trpo_ts.presets import load_preset
from trpo_ts.training.job_config import JobConfig, resolve


def test_the_preset_is_the_tasks_and_overrides_replace_its_settings():
    config = resolve("Swimmer-v5", seed=2, max_kl=0.5)
    assert (config.preset, config.seed, config.env_backend) == ("mujoco", 2, "gymnasium")
    assert (config.settings.max_kl, config.settings.gamma) == (0.5, 0.9999)


def test_another_preset_may_be_asked_for():
    config = resolve("CartPole-v1", "memory")
    assert config.settings == load_preset("memory").settings("CartPole-v1")
    assert config.settings.memory == "gru"


@pytest.mark.parametrize("task", ["CartPole-v1", "FrozenLake-v1", "Catch-v0"])
def test_values_survive_json(task):
    config = resolve(task, critic_fit=LBFGSFit(history=3), hidden_sizes=[3, 4])
    again = JobConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert again.settings.hidden_sizes == (3, 4)


def test_a_missing_or_unknown_value_is_named():
    values = resolve("CartPole-v1").as_dict()
    with pytest.raises(TypeError, match="seed"):
        JobConfig.from_dict({name: value for name, value in values.items() if name != "seed"})
    with pytest.raises(TypeError, match="colour"):
        JobConfig.from_dict({**values, "colour": "red"})


def test_what_no_file_can_hold_is_refused():
    class Own:
        def fit(self, task):
            return [0.0]

    with pytest.raises(ValueError, match="critic_fit must be one of"):
        resolve("CartPole-v1", critic_fit=Own())


def test_tasks_that_only_envpool_has_are_run_by_it():
    pytest.importorskip("envpool")
    assert resolve("CartPole-v1").env_backend == "gymnasium"
    assert resolve("CartPole-v1", env_backend="envpool").env_backend == "envpool"
    config = resolve("Pong-v5")
    assert (config.env_backend, config.preset) == ("envpool", "images")
    with pytest.raises(ValueError, match="Pong-v5"):
        resolve("Pong-v5", env_backend="gymnasium")
    with pytest.raises(ValueError, match="frame_stack must be 1 with EnvPool"):
        resolve("Pong-v5", frame_stack=4)


@pytest.mark.parametrize("task", [None, 3, ["CartPole-v1"]])
def test_a_task_that_is_no_name_is_refused(task):
    with pytest.raises((TypeError, ValueError), match=r"task must be .*registered environment"):
        resolve(task)


def test_a_preset_that_is_no_name_is_refused():
    with pytest.raises((TypeError, ValueError), match=r"preset must be"):
        resolve("CartPole-v1", 3)
