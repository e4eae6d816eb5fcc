"""The examples of docs/agents.md run, in their order."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from command_line import train
from gymnasium import spaces
from repository import ROOT

from trpo_ts.agents import Agent
from trpo_ts.policies import make_recurrent_policy
from trpo_ts.training import make_job

PAGE = (ROOT / "docs" / "agents.md").read_text()


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "runs" / "CartPole-v1" / "seed_0", "--task", "CartPole-v1", "--test-every", 64)
    job = make_job("CartPole-v1", steps=32, test_every=0, num_envs=1, segment=32, hidden_sizes=(8,))
    capsys.readouterr()
    names: dict[str, Any] = {
        "observations": np.zeros((3, 4), np.float32),
        "finished": np.array([True, False, False]),
        "algorithm": job.algorithm,
        "training_envs": job.training_envs,
    }
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE):
        exec(code, names)
    assert re.match(r"\d+\.\d \+- \d+\.\d \(", capsys.readouterr().out)
    assert names["action"].shape == (5,)
    assert names["actions"].shape == (3,)
    assert {path.name for path in tmp_path.iterdir()} >= {"learner.ckpt", "cartpole.gif", "cartpole.onnx"}


@pytest.mark.parametrize("space", [spaces.Box(-1.0, 1.0, (2,)), spaces.Dict(a=spaces.Discrete(2))], ids=str)
def test_the_names_in_the_table_are_those_of_the_model(space):
    from trpo_ts.agents.exported_module import ExportedModule

    named = set(re.findall(r"^\| `([\w.<>]+)` \|", PAGE, flags=re.MULTILINE))
    assert named == {"obs", "obs.<key>", "state", "action", "action.<key>", "next_state"}
    module = ExportedModule(Agent(make_recurrent_policy(space, spaces.Discrete(3))))
    import torch

    obs = {"obs.a": torch.zeros(1).long()} if isinstance(space, spaces.Dict) else {"obs": torch.zeros(1, 2)}
    outputs = module({**obs, "state": torch.zeros(1, module.state_size)})
    assert set(outputs) == {"action", "next_state"}
