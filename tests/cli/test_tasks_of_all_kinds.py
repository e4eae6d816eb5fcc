"""Tasks of all kinds train, are tested and are evaluated with nothing but their names."""

from __future__ import annotations

import json

import pytest
from command_line import metrics, succeeds, train

from trpo_ts.training import make_job

KINDS = {
    "PointMass1D-v0": "point_mass",
    "CartPole-v1": "classic_control",
    "Pendulum-v1": "classic_control",
    "FrozenLake-v1": "toys",
    "Blackjack-v1": "toys",
    "CliffWalking-v1": "toys",
    "Catch-v0": "images",
    "RepeatPrevious-v0": "memory",
    "little_tasks:DictTask-v0": "generic",
    "little_tasks:TupleTask-v0": "generic",
    "little_tasks:ChoicesTask-v0": "generic",
}


@pytest.mark.parametrize("task", KINDS)
def test_a_task_trains_and_is_evaluated(task, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)  # a second each
    train(tmp_path / "run", "--task", task, steps=96)
    updates = metrics(tmp_path / "run", "update")
    assert len(updates) == 3
    assert all(update["accepted"] == 1.0 for update in updates)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["preset"] == KINDS[task]
    capsys.readouterr()
    succeeds("evaluate", tmp_path / "run", "--episodes", 4, "--checkpoint", "last")
    assert ", 4 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(("task", "module"), [("Hopper-v4", "mujoco"), ("LunarLander-v3", "Box2D")])
def test_a_task_of_an_extra_trains(task, module, tmp_path, monkeypatch):
    pytest.importorskip(module)
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)
    train(tmp_path / "run", "--task", task, steps=64)
    assert len(metrics(tmp_path / "run", "update")) == 2


def test_envpool_trains_and_resumes(tmp_path, monkeypatch):
    pytest.importorskip("envpool")
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)
    train(tmp_path / "run", "--task", "CartPole-v1", "--env-backend", "envpool", steps=64)
    succeeds("resume", tmp_path / "run", "--steps", 128)
    assert len(metrics(tmp_path / "run", "update")) == 4
    assert json.loads((tmp_path / "run" / "config.json").read_text())["env_backend"] == "envpool"


@pytest.mark.slow
def test_ray_trains_and_resumes(tmp_path, monkeypatch):
    """The same episodes as in this process, and a run that continues; Ray's processes take long to start."""
    ray = pytest.importorskip("ray")
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)
    for backend in ("ray", "gymnasium"):
        train(tmp_path / backend, "--task", "Pendulum-v1", "--env-backend", backend, "--num-envs", 2, steps=64)
    assert metrics(tmp_path / "ray", "update") == metrics(tmp_path / "gymnasium", "update")
    succeeds("resume", tmp_path / "ray", "--steps", 128)
    ray.shutdown()
    assert len(metrics(tmp_path / "ray", "update")) == 4


def test_ray_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("trpo_ts.envs.ray_tasks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs Ray; type: pip install \"trpo-ts\[ray\]\""):
        make_job("CartPole-v1", env_backend="ray")


def test_training_and_its_tests_are_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)
    for name in ("first", "second"):
        train(tmp_path / name, "--task", "Pendulum-v1", "--seed", 7)
    train(tmp_path / "other", "--task", "Pendulum-v1", "--seed", 8)
    assert metrics(tmp_path / "first") == metrics(tmp_path / "second") != metrics(tmp_path / "other")


def test_evaluation_takes_the_statistics_of_the_observations(tmp_path, monkeypatch, capsys):
    """The best and the last policy are one here; so are their returns on the episodes of the tests."""
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)
    train(tmp_path / "run", "--task", "Pendulum-v1", "--seed", 7, "--normalise-observations", steps=64)
    capsys.readouterr()
    for checkpoint in ("best", "last", "last"):
        succeeds("evaluate", tmp_path / "run", "--episodes", 2, "--seed", 3, "--checkpoint", checkpoint)
    best, last, again = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines())
    assert last == again
    assert best.startswith("mean return -")
