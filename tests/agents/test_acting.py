"""A loaded agent acts as the policy did in training, from observations as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agent_cases import CASES, normalised_envs, policy_of, saved
from gymnasium import spaces
from tianshou.data import Batch

import trpo_ts
from trpo_ts.agents.example_observations import example_observations, parts_of_value
from trpo_ts.agents.observation_batches import as_batch
from trpo_ts.envs.flat_action import FlatAction


def rows_of(space: Any, value: Any, index: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: rows_of(part, value[key], index) for key, part in space.spaces.items()}
    return value[index]


def expected_actions(policy: Any, obs: Any, *, state: Any = None) -> Any:
    policy.eval()
    with torch.no_grad():
        result = policy(Batch(obs=as_batch(policy.observation_space, obs)[0], info=Batch()), state)
    return policy.map_action(result.dist.mode), result.get("state")


@pytest.mark.parametrize("case", CASES)
def test_actions_are_the_policys_and_of_the_action_space(case: str, tmp_path):
    policy = policy_of(case)
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy))
    obs = example_observations(agent, 16)
    expected, _ = expected_actions(policy, obs)
    actions = agent.act(obs)
    if isinstance(policy.action_space, FlatAction):
        structured = [policy.action_space.unflatten(row) for row in expected]
        for key in agent.action_space:
            np.testing.assert_array_equal(actions[key], np.stack([row[key] for row in structured]))
    else:
        np.testing.assert_array_equal(actions, expected)
        assert len(np.unique(actions, axis=0)) > 1
    single = agent.fresh().act(rows_of(agent.observation_space, obs, 3))
    assert agent.action_space.contains(single), (agent.action_space, single)
    if not isinstance(policy.action_space, FlatAction):
        np.testing.assert_allclose(single, expected[3], rtol=1e-5, atol=1e-6)


def test_observations_are_normalised_by_the_statistics_of_the_training(tmp_path):
    policy = policy_of("gaussian")
    envs = normalised_envs(policy)
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy, envs))
    obs = np.random.default_rng(0).normal([100.0, -3.0, 0.0], 1.0, (8, 3)).astype(np.float32)
    expected, _ = expected_actions(policy, envs.obs_rms.norm(obs).astype(np.float64))
    np.testing.assert_array_equal(agent.act(obs), expected)
    assert np.abs(agent.act(obs) - expected_actions(policy, obs)[0]).max() > 0.1


@pytest.mark.parametrize("case", ["gru", "lstm, dict"])
def test_a_memory_lasts_until_it_is_reset(case: str, tmp_path):
    policy = policy_of(case)
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy))
    obs = example_observations(agent, 3)
    first, state = expected_actions(policy, obs)
    second, state = expected_actions(policy, obs, state=state)
    third, _ = expected_actions(policy, obs, state=state)
    np.testing.assert_array_equal(agent.act(obs), first)
    other = agent.fresh()
    np.testing.assert_array_equal(other.act(obs), first)  # a memory of its own
    np.testing.assert_array_equal(agent.act(obs), second)
    agent.reset(np.array([False, True, False]))
    np.testing.assert_array_equal(agent.act(obs), np.where(_column([0, 1, 0], first), first, third))
    agent.reset()
    np.testing.assert_array_equal(agent.act(obs), first)


def _column(chosen: list[int], like: np.ndarray) -> np.ndarray:
    return np.reshape(np.array(chosen, bool), (-1, *[1] * (like.ndim - 1)))


def test_actions_are_drawn_if_asked_for(tmp_path):
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy_of("gaussian")))
    obs = np.zeros((500, 3), np.float32)
    torch.manual_seed(3)
    drawn = agent.act(obs, deterministic=False)
    torch.manual_seed(3)
    np.testing.assert_array_equal(agent.act(obs, deterministic=False), drawn)
    assert drawn.std(axis=0).min() > 0.3
    assert agent.act(obs).std(axis=0).max() < 1e-5
    before = torch.get_rng_state()
    agent.act(obs)
    assert torch.equal(torch.get_rng_state(), before)


def test_actions_that_a_mask_forbids_are_never_taken(tmp_path):
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy_of("gru, masked")))
    rng = np.random.default_rng(0)
    mask = np.zeros((200, 5), np.int8)
    mask[np.arange(200), rng.integers(0, 5, 200)] = 1
    obs = {"observation": rng.normal(size=(200, 3)).astype(np.float32), "action_mask": mask}
    np.testing.assert_array_equal(agent.act(obs, deterministic=False), mask.argmax(axis=1))
    with pytest.raises(ValueError, match=r"must leave every component a valid category.*row 7"):
        agent.act({**obs, "action_mask": np.where(np.arange(200)[:, None] == 7, 0, mask)})


def test_parameters_in_double_precision_stay_so(tmp_path):
    policy = policy_of("gaussian").double()
    agent = trpo_ts.load(saved(tmp_path / "a.ckpt", policy))
    obs = example_observations(agent, 4)
    assert {parameter.dtype for parameter in agent.policy.parameters()} == {torch.float64}
    np.testing.assert_array_equal(agent.act(obs), expected_actions(policy, obs)[0])


def test_names_of_parts():
    space = spaces.Dict(a=spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)]))
    assert list(parts_of_value(space, "obs", {"a": (np.zeros(2), np.zeros(2))})) == ["obs.a.0", "obs.a.1"]
    clash = spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(2))})
    with pytest.raises(ValueError, match=r"two parts .* are called 'obs\.a\.b'; rename a key"):
        parts_of_value(clash, "obs", {"a.b": np.zeros(2), "a": {"b": np.zeros(2)}})
