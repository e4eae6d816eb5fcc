"""Runs and checkpoints become agents, in processes that know nothing of the training; what cannot says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_cases import NORMALISED, normalised_envs, policy_of, saved
from command_line import train
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor
from torch import nn

import trpo_ts
from trpo_ts.agents import Agent, Evaluation
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.run_folder import RunFolder
from trpo_ts.networks import make_trunk
from trpo_ts.policies import make_policy, make_recurrent_policy

OBS, ACT = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-2.0, 2.0, (1,))
PROBE = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pendulum"
    train(folder, "--task", "Pendulum-v1", "--max-episode-steps", 20)
    return folder


def same(first: Agent, second: Agent) -> bool:
    return bool((first.act(PROBE) == second.act(PROBE)).all())


def bias_of(path: Path) -> float:
    return trpo_ts.load(path).policy.actor.mu.bias.item()


def test_an_agent_of_a_run_acts_the_same_in_another_process(run: Path):
    code = (
        "import sys, trpo_ts, numpy as np; agent = trpo_ts.load(sys.argv[1]); "
        "obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32); "
        "result = agent.evaluate(3, seed=5); "
        "print(agent.act(obs).tobytes().hex(), *map(float.hex, result.returns))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(run)], check=True, capture_output=True, text=True
    ).stdout.split()
    agent = trpo_ts.load(run)
    assert agent.task.task == "Pendulum-v1"
    assert printed == [agent.act(PROBE).tobytes().hex(), *map(float.hex, agent.evaluate(3, seed=5).returns)]


def test_of_a_run_the_policy_of_the_best_test_is_taken_else_the_newest(run: Path, tmp_path: Path):
    best, last = read_file(run / "best.ckpt"), read_file(run / "last.ckpt")
    key = "policy.actor.mu.bias"
    for bias, state in enumerate((best, last)):
        state["algorithm"][key] = torch.full((1,), float(bias))
    write_file(tmp_path / "last.ckpt", last)
    assert bias_of(tmp_path) == 1.0
    write_file(tmp_path / "best.ckpt", best)
    assert bias_of(tmp_path) == 0.0
    assert bias_of(tmp_path / "last.ckpt") == 1.0
    numbered = tmp_path / "numbered"
    for updates in (10, 20):
        last["algorithm"][key] = torch.full((1,), float(updates))
        write_file(RunFolder(numbered).checkpoint(updates), last)
    assert bias_of(numbered) == 20.0


def test_a_checkpoint_of_an_earlier_version_is_described_by_the_configuration_beside_it(run: Path, tmp_path: Path):
    state = read_file(run / "best.ckpt")
    del state["agent"]
    for statistics in state["observation_statistics"]:
        del statistics["clip_max"], statistics["eps"]
    old = write_file(tmp_path / "best.ckpt", state)
    with pytest.raises(ValueError, match=r"does not say how to make its policy \(it is of an earlier version, and no"):
        trpo_ts.load(old)
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    assert same(trpo_ts.load(old), trpo_ts.load(run))
    assert trpo_ts.load(old).evaluate(2) == trpo_ts.load(run).evaluate(2)
    (tmp_path / "config.json").write_text(json.dumps({"task": "Pendulum-v1"}))
    with pytest.raises(ValueError, match="holds no configuration of a run"):
        trpo_ts.load(old)


def test_trunks_of_make_trunk_are_made_again(tmp_path: Path):
    policy = make_policy(OBS, ACT, trunk=make_trunk(OBS, (8, 5), nn.ReLU, layer_norm=True))
    path = saved(tmp_path / "a.ckpt", policy)
    assert same(trpo_ts.load(path), Agent(policy))


def tianshou_policy() -> ProbabilisticActorPolicy:
    net = Net(state_shape=(3,), hidden_sizes=[8])
    actor = DiscreteActor(preprocess_net=net, action_shape=3, softmax_output=False)
    return ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
        action_space=spaces.Discrete(3),
        observation_space=OBS,
        action_scaling=False,
        action_bound_method=None,
    )


class Doubled(nn.Tanh):
    """An activation that torch does not have."""


def changed() -> ProbabilisticActorPolicy:
    policy = make_policy(OBS, ACT)
    policy.actor.preprocess.layers[1] = nn.ReLU()
    return policy


def with_own_trunk() -> ProbabilisticActorPolicy:
    return make_policy(OBS, ACT, trunk=Net(state_shape=(3,), hidden_sizes=[8]))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tianshou_policy, "not made by make_policy"),
        (changed, "its modules are others"),
        (lambda: make_policy(OBS, ACT, activation=Doubled), "activation Doubled is none of torch.nn"),
        (with_own_trunk, "its trunk was not made by make_trunk"),
    ],
    ids=["Tianshou's", "changed", "own activation", "own trunk"],
)
def test_networks_that_cannot_be_made_again_are_passed(make: Any, why: str, tmp_path: Path):
    policy = make()
    path = saved(tmp_path / "a.ckpt", policy)
    with pytest.raises(ValueError, match=rf"{why}.*pass it: trpo_ts\.load\('.*a\.ckpt', policy=\.\.\.\)"):
        trpo_ts.load(path)
    given = make()
    agent = trpo_ts.load(path, policy=given)
    assert same(agent, Agent(policy))
    assert agent.policy is not given
    assert any((a != b).any() for a, b in zip(given.parameters(), policy.parameters(), strict=True))


@pytest.mark.slow
def test_compiled_actors_are_loaded_as_they_were_written(tmp_path: Path):
    policy = make_policy(OBS, ACT)
    expected = Agent(policy).act(PROBE)
    policy.actor = torch.compile(policy.actor)
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy))
    np.testing.assert_array_equal(agent.act(PROBE), expected)


def edited(path: Path, change: Any) -> Path:
    state = read_file(path)
    change(state)
    return write_file(path, state)


def oversized(state: dict[str, Any]) -> None:
    state["agent"]["policy"]["arguments"]["hidden_sizes"] = [10**7, 10**7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["agent"]["policy"].update(factory="system"), "describes a policy that cannot be made: 'system'"),
        (lambda s: s["agent"]["policy"]["arguments"].update(activation="Module.x"), "cannot be made"),
        (lambda s: s["agent"]["policy"]["arguments"].update(activation="init"), "torch.nn.init is no activation"),
        (oversized, r"cannot be made: the policy must have the parameter \S+ of shape .* got .*10000000"),
        (lambda s: s["agent"].update(task={"task": 3}), "task must be a str, got int"),
        (lambda s: s["observation_statistics"][0].update(mean=np.zeros(4)), r"must be of the shape \(3,\), got \(4,\)"),
        (lambda s: s["observation_statistics"][0].update(var=-np.ones(3)), "with variances >= 0"),
        (lambda s: s.pop("algorithm"), "holds no learner"),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(change: Any, words: str, tmp_path: Path):
    policy = policy_of(NORMALISED)
    path = saved(tmp_path / "a.ckpt", policy, normalised_envs(policy))
    with pytest.raises(ValueError, match=words):
        trpo_ts.load(edited(path, change))


def test_wrong_calls_of_load_are_answered_with_one_error(tmp_path: Path):
    path = saved(tmp_path / "a.ckpt", policy_of("gaussian"))
    for policy, words in (
        (make_policy(OBS, ACT, hidden_sizes=(8,)), r"must have the parameter actor\.\S+ of shape .* got"),
        (make_recurrent_policy(OBS, ACT), r"has the parameter actor\.\S+, which the policy has not; make"),
        (nn.Linear(1, 1), "policy must be a ProbabilisticActorPolicy, got Linear"),
    ):
        with pytest.raises(ValueError, match=words):
            trpo_ts.load(path, policy=policy)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        trpo_ts.load(tmp_path / "..", policy=None)
    with pytest.raises(FileNotFoundError):
        trpo_ts.load(tmp_path / "nowhere")
    (tmp_path / "text.ckpt").write_text("no checkpoint at all, and longer than a header would be, by some words more")
    with pytest.raises(ValueError, match="is no checkpoint of trpo_ts"):
        trpo_ts.load(tmp_path / "text.ckpt")
    nameless = tianshou_policy()
    nameless.observation_space = None
    with pytest.raises(ValueError, match=r"policy\.observation_space must be the space"):
        Agent(nameless)


def test_loading_draws_no_random_numbers(run: Path):
    before = torch.get_rng_state(), np.random.get_state()[2]  # noqa: NPY002
    trpo_ts.load(run)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[2]  # noqa: NPY002


def test_an_evaluation_says_what_it_is():
    result = Evaluation.of([1.0, 3.0], [5, 6])
    assert (result.mean, result.std, result.returns, result.lengths) == (2.0, 1.0, (1.0, 3.0), (5, 6))
