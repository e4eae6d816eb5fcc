"""The list of tasks."""

from __future__ import annotations

from importlib import util

import gymnasium as gym
from command_line import succeeds

from trpo_ts.presets import load_preset, preset_names


def test_every_preset_and_every_task_of_theirs_is_listed(capsys):
    succeeds("tasks")
    out = capsys.readouterr().out
    for name in preset_names():
        assert f"(preset {name})" in out
        for task in gym.registry:
            if load_preset(name).matches(task):
                assert task in out
    assert "pip install" not in out or not all(map(util.find_spec, ("mujoco", "Box2D", "ale_py")))


def test_what_is_missing_is_said_where_it_is_needed(capsys, monkeypatch):
    monkeypatch.setattr("trpo_ts.cli.tasks_command.find_spec", lambda name: None)
    succeeds("tasks")
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("MuJoCo (preset mujoco)")
    assert lines[place + 2] == '  not installed; type: pip install "trpo-ts[mujoco]"'
    assert 'pip install "trpo-ts[box2d]"' in "\n".join(lines)
