"""Structured actions as flat arrays: the space, the wrapper, vectorised environments."""

from __future__ import annotations

import copy
import doctest
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from action_tasks import Anything
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tianshou.env import DummyVectorEnv, SubprocVectorEnv

from trpo_ts.envs import FlatAction, FlattenAction, flat_action

NESTED = spaces.Dict(
    aim=spaces.Box(np.array([[-1.0, 0.0]], np.float32), np.array([[3.0, 10.0]], np.float32)),
    choice=spaces.Tuple([spaces.Discrete(3, start=2), spaces.MultiBinary((2, 2))]),
    gear=spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[1, 0], [0, 5]], dtype=np.int32),
    push=spaces.Box(-np.inf, np.inf, (1,), np.float64),
)

leaves = st.one_of(
    st.builds(
        lambda low, width, shape, dtype: spaces.Box(low, low + width, shape, dtype=dtype),
        st.floats(-1e3, 1e3),
        st.floats(1e-3, 1e3),
        st.sampled_from([(), (1,), (2, 3)]),
        st.sampled_from([np.float32, np.float64]),
    ),
    st.builds(lambda n: spaces.Box(-np.inf, np.inf, (n,)), st.integers(1, 3)),
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3)),
    st.builds(lambda nvec: spaces.MultiDiscrete(nvec, start=nvec), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(spaces.MultiBinary, st.sampled_from([1, 4, (2, 3)])),
)
structures = st.recursive(
    leaves,
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(spaces.Tuple),
        st.dictionaries(st.sampled_from("abcd"), parts, min_size=1, max_size=3).map(spaces.Dict),
    ),
    max_leaves=6,
)


def numbers(action: Any) -> list[float]:
    """Return all numbers of a structured action in the order of its leaves."""
    parts = action.values() if isinstance(action, dict) else action if isinstance(action, tuple) else None
    return np.ravel(action).tolist() if parts is None else [x for part in parts for x in numbers(part)]


@given(structure=structures, seed=st.integers(0, 1000))
def test_every_flat_action_is_a_structured_one(structure: gym.Space[Any], seed: int):
    space = FlatAction(structure)
    space.seed(seed)
    for _ in range(3):
        action = space.sample()
        assert space.contains(action)
        assert structure.contains(space.unflatten(action))
    beyond = action * 7.0
    beyond[space.reals :] = action[space.reals :]  # as a Gaussian draws, beyond the bounds
    assert structure.contains(space.unflatten(beyond))


@examples(50)
@given(structure=structures)
def test_no_number_of_a_structured_action_is_fixed_or_given_twice(structure: gym.Space[Any]):
    space = FlatAction(structure)
    action = np.zeros(space.shape, np.float32)
    base = numbers(space.unflatten(action))
    assert len(base) == len(action)
    moved = set()
    for i in range(len(action)):
        other = action.copy()
        other[i] = 1.0
        (changed,) = np.flatnonzero(np.array(numbers(space.unflatten(other))) != base)
        moved.add(int(changed))
    assert len(moved) == len(action)


def test_numbers_land_where_they_belong():
    space = FlatAction(NESTED)
    assert space.reals == 3
    assert space.nvec.tolist() == [3, 2, 2, 2, 2, 2, 3, 4, 1]
    assert space.low.tolist() == [-1, -1, -np.inf] + 9 * [0]
    assert space.high.tolist() == [1, 1, np.inf, 2, 1, 1, 1, 1, 1, 2, 3, 0]
    action = space.unflatten(np.array([0.0, 5.0, -42.5, 1, 0, 1, 1, 0, 1, 2, 3, 0], np.float32))
    assert list(action) == ["aim", "choice", "gear", "push"]
    assert action["aim"].tolist() == [[1.0, 10.0]]
    assert action["choice"][0] == 3
    assert action["choice"][1].tolist() == [[0, 1], [1, 0]]
    assert action["gear"].tolist() == [[2, 2], [3, 5]]
    assert action["push"].tolist() == [-42.5]
    assert [np.asarray(part).dtype.name for part in (action["aim"], action["choice"][0], action["gear"])] == [
        "float32",
        "int64",
        "int32",
    ]


def test_bounds_at_the_end_of_the_floating_range_are_none():
    largest = np.finfo(np.float32).max
    space = FlatAction(spaces.Tuple([spaces.Box(-largest, largest, (1,))]))
    assert space.high.tolist() == [np.inf]
    assert space.unflatten(np.array([2.5]))[0].tolist() == [2.5]


def test_samples_reach_every_category_and_both_ends():
    space = FlatAction(NESTED)
    space.seed(0)
    drawn = np.stack([space.sample() for _ in range(500)])
    assert [len(np.unique(column)) for column in drawn[:, 3:].T] == space.nvec.tolist()
    assert drawn[:, 0].min() < -0.9
    assert drawn[:, 0].max() > 0.9


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"])
def test_a_copy_keeps_the_structure(copied: Any):
    space = FlatAction(NESTED)
    twin = copied(space)
    assert twin == space
    assert twin.structure == NESTED
    assert NESTED.contains(twin.unflatten(twin.sample()))
    assert space != FlatAction(spaces.Tuple([NESTED]))
    assert space != spaces.Box(space.low, space.high)


def make_wrapped() -> gym.Env[Any, Any]:
    return FlattenAction(Anything(NESTED))


@pytest.mark.parametrize("kind", [DummyVectorEnv, SubprocVectorEnv])
def test_vectorised_environments_hand_the_space_out_and_take_flat_actions(kind: Any):
    envs = kind([make_wrapped] * 2)
    try:
        assert envs.action_space == [FlatAction(NESTED)] * 2
        envs.reset()
        for _ in range(3):  # the environment itself checks what it gets
            envs.step(np.stack([space.sample() for space in envs.action_space]))
    finally:
        envs.close()


def test_the_wrapper_is_where_unwrapping_ends():
    env = gym.wrappers.TimeLimit(make_wrapped(), 3)
    assert isinstance(env.unwrapped, FlattenAction)
    assert isinstance(env.unwrapped.env.unwrapped, Anything)
    assert env.action_space == env.unwrapped.action_space == FlatAction(NESTED)


def test_the_example_in_the_documentation():
    result = doctest.testmod(flat_action)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("structure", "must", "fix"),
    [
        (spaces.Tuple([spaces.Text(4)]), "be made of Box, Discrete", "action wrapper"),
        (spaces.Dict(a=spaces.Tuple([spaces.Sequence(spaces.Discrete(2))])), "be made of", "action wrapper"),
        (spaces.Dict(a=spaces.Box(0, 5, (2,), np.int64)), "hold Boxes of floating-point numbers", "MultiDiscrete"),
        (spaces.Dict(a=spaces.Box(0, np.inf, (2,))), "bounded on both sides or on none", "finite bounds"),
        (spaces.Tuple([]), "hold at least one number", ""),
        (spaces.Tuple([spaces.Box(0, 1, (0,))]), "hold at least one number", ""),
    ],
    ids=repr,
)
def test_what_has_no_flat_form_is_refused_with_the_fix(structure: gym.Space[Any], must: str, fix: str):
    with pytest.raises(ValueError, match=f"^action_space must .*{must}") as caught:
        FlattenAction(Anything(structure))
    assert fix in str(caught.value)
