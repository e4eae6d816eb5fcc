"""The examples of docs/spaces.md run."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from repository import ROOT
from tianshou.data import Batch

from trpo_ts.distributions.fisher_metric import fisher_metric


def test_the_examples_of_actions_run():
    page = (ROOT / "docs" / "spaces.md").read_text()
    section = page.split("\n## Actions\n")[1].split("\n## ")[0]
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE):
        exec(code, names)
    action = names["env"].action(np.array([0.5, -3.0, 1.0]))
    assert (action["aim"].tolist(), action["fire"]) == ([45.0, -90.0], 1)
    assert names["policy"].action_space == spaces.Discrete(6)
    outputs = torch.zeros(8, 5, requires_grad=True)
    assert names["dist_fn"](outputs).sample().shape == (8, 2)
    assert fisher_metric(names["dist_fn"](outputs)) is not None


def test_the_examples_of_observations_and_networks_run():
    page = (ROOT / "docs" / "spaces.md").read_text()
    sections = dict(section.split("\n", 1) for section in page.split("\n## ")[1:])
    text = sections["Observations"] + sections["Networks and distributions"]
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        exec(code, names)
    assert names["policy"].actor.preprocess is names["critic"].preprocess is names["trunk"]
    obs = names["env"].observation_space.sample()
    assert names["critic"](Batch([obs])).shape == (1, 1)
