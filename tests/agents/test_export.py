"""What is exported acts as the agent does, on 1,000 observations."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_cases import CASES, NORMALISED, normalised_envs, policy_of, saved
from exported_models import Arrays, loaded_model
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch.distributions import Categorical

import trpo_ts
from trpo_ts.agents import Agent
from trpo_ts.agents.example_observations import example_observations, parts_of_value
from trpo_ts.policies import make_policy
from trpo_ts.policies.box import BoxPolicy

ROWS = 1000
QUICK = (("gaussian", ".onnx"), ("gaussian", ".pt2"), ("gru, masked", ".pt2"))
"""What every run of the tests tries; each takes seconds."""


def masked_at_random(agent: Agent, obs: Any) -> Any:
    """Forbid actions in observations that have a mask, always leaving the first of each component."""
    if "action_mask" in (obs if isinstance(obs, dict) else ()):
        mask = np.random.default_rng(2).integers(0, 2, obs["action_mask"].shape).astype(np.int8)
        first = [0] if isinstance(agent.action_space, spaces.Discrete) else [0, agent.action_space.nvec[0]]
        mask[:, first] = 1
        obs["action_mask"] = mask
    return obs


def assert_acts_like(agent: Agent, path: Path, obs: Any) -> None:
    model, agent = loaded_model(path), agent.fresh()
    inputs = parts_of_value(agent.observation_space, "obs", obs)
    outputs: Arrays = {}
    memory = hasattr(agent.policy.actor, "trunk") and hasattr(agent.policy.actor.trunk, "cell")
    if memory:
        inputs["state"] = np.zeros((ROWS, agent.policy.actor.trunk.cell.state_size), np.float32)
    for _ in range(3 if memory else 1):
        expected = parts_of_value(agent.action_space, "action", agent.act(obs))
        outputs = model(inputs)
        assert set(outputs) == set(expected) | ({"next_state"} if memory else set())
        for name, value in expected.items():
            assert outputs[name].dtype == value.dtype
            np.testing.assert_allclose(outputs[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
        if memory:
            inputs["state"] = outputs["next_state"]
    assert all(len(np.unique(value, axis=0)) > 1 for value in expected.values()), "all actions are one"


every_case = pytest.mark.parametrize(
    ("case", "suffix"),
    [
        pytest.param(case, suffix, marks=() if (case, suffix) in QUICK else pytest.mark.slow)
        for case in CASES
        for suffix in (".onnx", ".pt2")
    ],
)


@every_case
def test_what_is_exported_acts_like_the_agent(case: str, suffix: str, tmp_path: Path):
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy_of(case)))
    path = agent.export(tmp_path / f"agent{suffix}")
    assert_acts_like(agent, path, masked_at_random(agent, example_observations(agent, ROWS)))


@pytest.mark.parametrize("suffix", [pytest.param(".onnx", marks=pytest.mark.slow), ".pt2"])
def test_normalisation_is_exported_in_double_precision(suffix: str, tmp_path: Path):
    policy = policy_of(NORMALISED)
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy, normalised_envs(policy)))
    obs = np.random.default_rng(3).normal([100.0, -3.0, 0.0], [0.7, 30.0, 1.0], (ROWS, 3)).astype(np.float32)
    assert_acts_like(agent, agent.export(tmp_path / f"agent{suffix}"), obs)


class Negated(BoxPolicy):
    """Maps actions in its own way."""

    def map_action(self, act: Any) -> np.ndarray:
        return -super().map_action(act)


class Loud(ProbabilisticActorPolicy):
    """Acts in its own way."""

    def forward(self, batch: Any, state: Any = None) -> Any:
        return super().forward(batch, state)


def of_class(kind: type) -> ProbabilisticActorPolicy:
    policy = policy_of("gaussian" if kind is Negated else "structured")
    policy.__class__ = kind
    return policy


class FromNumPy(torch.nn.Module):
    """An actor that leaves torch, and takes an array for another thing than a tensor."""

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self.layer, self.quiet = torch.nn.Linear(3, 3), quiet

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        if self.quiet:
            obs = torch.as_tensor(-obs if isinstance(obs, np.ndarray) else obs)
        return self.layer(torch.as_tensor(np.asarray(obs))), state


def of_actor(quiet: bool) -> ProbabilisticActorPolicy:
    torch.manual_seed(0)
    return ProbabilisticActorPolicy(
        actor=FromNumPy(quiet),
        dist_fn=lambda logits: Categorical(logits=logits),
        action_space=spaces.Discrete(3),
        observation_space=spaces.Box(-1.0, 1.0, (3,)),
        action_scaling=False,
        action_bound_method=None,
    )


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (lambda: of_class(Negated), "its class Negated maps actions in its own way"),
        (lambda: of_class(Loud), "its class Loud acts by a forward pass of its own"),
        (lambda: of_actor(quiet=False), "cannot be exported"),
    ],
    ids=["map", "forward", "NumPy"],
)
def test_what_cannot_be_exported_is_said_and_no_file_is_written(policy: Any, words: str, tmp_path: Path):
    with pytest.raises(ValueError, match=words):
        Agent(policy()).export(tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_networks_that_take_tensors_for_another_thing_than_arrays_are_refused(tmp_path: Path):
    policy = of_actor(quiet=True)
    policy.actor.forward = lambda obs, state=None, info=None: (
        policy.actor.layer(torch.as_tensor(-obs if isinstance(obs, np.ndarray) else obs)),
        state,
    )
    with pytest.raises(ValueError, match="what is exported gives another action than the policy"):
        Agent(policy).export(tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_another_ending_and_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    agent = Agent(make_policy(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2)))
    with pytest.raises(ValueError, match=r"path must end in \.onnx or \.pt2, got 'agent\.pt'"):
        agent.export("agent.pt")
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in ("onnx", "imageio_ffmpeg"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r'pip install "trpo-ts\[export\]"'):
        agent.export(tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r'pip install "trpo-ts\[video\]"'):
        agent.record_video(tmp_path / "a.mp4")
