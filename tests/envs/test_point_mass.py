"""The point mass: the contract of Gymnasium, dynamics by hand, determinism, pictures."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from point_mass_states import position_and_velocity

import trpo_ts.envs
from trpo_ts.envs import POINT_MASS_HORIZON, PointMass1DEnv


def act(value: float) -> np.ndarray:
    # float64, so that the numbers worked out by hand are not rounded on the way in.
    return np.array([value])


def env_at(x: float, v: float, **parameters: float) -> PointMass1DEnv:
    env = PointMass1DEnv(**parameters)
    env.reset(options={"state": (x, v)})
    return env


# --- Gymnasium's contract


def test_gymnasium_finds_nothing_but_the_missing_bound_of_the_position():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gym.make("PointMass1D-v0", render_mode="rgb_array").unwrapped)
    # Positions and so observations are unbounded, which check_env remarks on for every environment.
    assert [text for text in map(str, (w.message for w in caught)) if "infinity" not in text] == []


def test_import_registers_once():
    code = """
import importlib, sys, warnings
import gymnasium, trpo_ts.envs
# Else `python -m trpo_ts.envs.point_mass_optimum` warns of a module that is loaded twice.
assert "trpo_ts.envs.point_mass_optimum" not in sys.modules
warnings.simplefilter("error")
importlib.reload(trpo_ts.envs)
assert gymnasium.spec("PointMass1D-v0").max_episode_steps == 150
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_package_exports_what_it_lists():
    assert all(hasattr(trpo_ts.envs, name) for name in trpo_ts.envs.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = trpo_ts.envs.no_such_name


def test_spaces():
    env = PointMass1DEnv()
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert env.observation_space == gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert PointMass1DEnv(action_max=0.5).action_space == gym.spaces.Box(-0.5, 0.5, (1,), np.float32)


def test_time_limit_truncates_at_150():
    env = gym.make("PointMass1D-v0")
    env.reset(seed=0, options={"state": (2.0, 0.0)})
    ends = [env.step(act(0.0))[2:4] for _ in range(POINT_MASS_HORIZON)]
    assert ends[:-1] == [(False, False)] * 149
    assert ends[-1] == (False, True)


def test_the_bare_environment_never_truncates():
    env = env_at(2.0, 0.0)
    assert not any(env.step(act(0.0))[3] for _ in range(400))


# --- dynamics and reward, worked out by hand with dt = 1/20


def test_three_steps_by_hand():
    env = env_at(1.0, 0.0)
    # v = -0.05, x = 1 - 0.0025, cost = 0.9975² + 0.1 · 0.05² + 0.001
    obs, reward, terminated, truncated, info = env.step(act(-1.0))
    assert position_and_velocity(env) == pytest.approx((0.9975, -0.05), rel=1e-14)
    assert reward == pytest.approx(-(0.99500625 + 0.00025 + 0.001), rel=1e-14)
    assert (terminated, truncated, info) == (False, False, {})
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs, np.float32([0.9975, -0.05]))
    # v = -0.0495 + 0.025, x = 0.9975 - 0.001225
    _, reward, *_ = env.step(act(0.5))
    assert position_and_velocity(env) == pytest.approx((0.996275, -0.0245), rel=1e-14)
    assert reward == pytest.approx(-(0.992563875625 + 0.000060025 + 0.00025), rel=1e-14)
    # The action 3 counts as 1, in the motion and in the cost: v = -0.024255 + 0.05
    _, reward, *_ = env.step(act(3.0))
    assert position_and_velocity(env) == pytest.approx((0.99756225, 0.025745), rel=1e-14)
    assert reward == pytest.approx(-(0.9951304426250625 + 0.00006628050250 + 0.001), rel=1e-14)


def test_goal_terminates_with_the_bonus():
    env = env_at(0.051, -0.04)
    # v = -0.0396, x = 0.051 - 0.00198 = 0.04902
    _, reward, terminated, truncated, _ = env.step(act(0.0))
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(5.0 - 0.0024029604 - 0.000156816, rel=1e-14)


@pytest.mark.parametrize(("x", "v", "why"), [(0.0, 0.2, "too fast"), (0.06, 0.0, "too far"), (-0.06, 0.0, "too far")])
def test_no_goal_without_both_conditions(x, v, why):
    _, reward, terminated, _, _ = env_at(x, v).step(act(0.0))
    assert not terminated, why
    assert reward < 0.0


def test_goal_excludes_its_edge():
    # dt = 1/2 keeps every number exact: v = 1/2 is the tolerance itself.
    _, _, terminated, _, _ = env_at(-0.25, 0.0, dt=0.5, goal_tol=0.5).step(act(1.0))
    assert not terminated
    _, _, terminated, _, _ = env_at(-0.25, 0.0, dt=0.5, goal_tol=0.5).step(act(0.96875))
    assert terminated


def test_goal_position_and_bonus_are_parameters():
    _, reward, terminated, _, _ = env_at(1.5, 0.0, goal_x=1.5, goal_bonus=2.0).step(act(0.0))
    assert terminated
    assert reward == 2.0


# --- first states and determinism


def test_first_states_are_uniform_draws_of_the_seeded_generator():
    env = PointMass1DEnv(x_init_range=3.0, v_init_range=0.25)
    env.reset(seed=42)
    expected = np.random.default_rng(42)
    assert position_and_velocity(env) == (expected.uniform(-3.0, 3.0), expected.uniform(-0.25, 0.25))
    env.reset()
    assert position_and_velocity(env) == (expected.uniform(-3.0, 3.0), expected.uniform(-0.25, 0.25))


def test_constructor_seed_equals_reset_seed():
    built, reset = PointMass1DEnv(seed=7), PointMass1DEnv()
    np.testing.assert_array_equal(built.reset()[0], reset.reset(seed=7)[0])


def trajectory(env: PointMass1DEnv, seed: int, steps: int = 40) -> list[tuple[float, float, float]]:
    """Random actions, and a new episode after every tenth step, which draws from the environment's generator."""
    actions = np.random.default_rng(seed).uniform(-1.0, 1.0, steps)
    seen = []
    for t, action in enumerate(actions):
        if t % 10 == 9:
            env.reset()
        _, reward, *_ = env.step(act(action))
        seen.append((*position_and_velocity(env), reward))
    return seen


def test_equal_seeds_give_equal_trajectories():
    first, second, other = PointMass1DEnv(seed=3), PointMass1DEnv(seed=3), PointMass1DEnv(seed=4)
    for env in (first, second, other):
        env.reset()
    assert trajectory(first, 0) == trajectory(second, 0) != trajectory(other, 0)


def test_snapshot_through_a_safe_checkpoint_continues_bit_for_bit():
    env = PointMass1DEnv(seed=5)
    env.reset()
    trajectory(env, 1)
    file = io.BytesIO()
    torch.save(env.get_state(), file)
    expected = trajectory(env, 2)
    file.seek(0)
    restored = PointMass1DEnv()
    restored.set_state(torch.load(file, weights_only=True))
    assert trajectory(restored, 2) == expected


def test_restoring_leaves_a_shared_generator_alone():
    shared = np.random.default_rng(0)
    env = PointMass1DEnv(seed=1)
    state = env.get_state()
    env.np_random = shared
    env.set_state(state)
    env.reset()
    assert shared.random() == np.random.default_rng(0).random()


# --- refused input


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("dt", 0.0),
        ("dt", float("nan")),
        ("x_init_range", -1.0),
        ("v_init_range", float("inf")),
        ("action_max", -1.0),
        ("goal_x", float("nan")),
        ("goal_tol", 0.0),
        ("goal_bonus", None),
        ("render_mode", "human"),
    ],
)
def test_bad_parameter_is_named_with_its_value(parameter, value):
    with pytest.raises(ValueError, match=rf"^{parameter} is {value!r}; pass "):
        PointMass1DEnv(**{parameter: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_action_is_named_and_changes_nothing(value):
    env = env_at(1.0, 0.0)
    with pytest.raises(ValueError, match=rf"^action is array\(\[{value}\]\); pass one finite number"):
        env.step(act(value))
    assert position_and_velocity(env) == (1.0, 0.0)


@pytest.mark.parametrize("action", [np.zeros(2), np.zeros((1, 1)), np.float32(0.0), np.zeros(0)])
def test_action_of_another_shape_is_refused(action):
    with pytest.raises(ValueError, match=r"^action is .*shape \(1,\)"):
        env_at(1.0, 0.0).step(action)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": (0.0, 0.0)}, "start"),
        ({"state": (0.0,)}, r"state is \(0.0,\)"),
        ({"state": (0.0, float("nan"))}, r"state\[1\] is nan"),
    ],
)
def test_bad_reset_options_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        PointMass1DEnv().reset(options=options)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": float("nan")}, r"state\[0\] is nan"),
        ({"np_random": {"bit_generator": "MT19937"}}, "np_random"),
        ({"np_random": None}, "np_random"),
    ],
)
def test_bad_snapshot_is_named_and_changes_nothing(change, text):
    env = env_at(1.0, 0.5)
    before = env.get_state()
    with pytest.raises(ValueError, match=text):
        env.set_state({**before, **change})
    assert env.get_state() == before
    with pytest.raises(ValueError, match="lacks"):
        env.set_state({"x": 0.0})


# --- pictures


def test_picture_shows_goal_mass_and_arrow():
    env = PointMass1DEnv(render_mode="rgb_array")
    env.reset(options={"state": (1.25, -0.5)})
    image = env.render()
    assert (image.shape, image.dtype) == ((160, 480, 3), np.uint8)
    # Half the width shows 2.5 m: the goal stands in the middle, the mass at 240 + 120, the arrow 48 to its left.
    red, green, blue = image[60, 239].astype(int)
    assert green > red + 30
    assert green > blue + 30
    red, green, blue = image[105, 360].astype(int)
    assert blue > red + 100
    red, green, blue = image[96, 320].astype(int)
    assert red > blue + 100
    assert np.ptp(image[60, 400:]) < 10


@pytest.mark.parametrize("state", [(1e9, 1.0), (-1e9, -1e9), (0.0, 0.0)])
def test_picture_of_any_state_draws(state):
    env = PointMass1DEnv(render_mode="rgb_array", x_init_range=0.0)
    env.reset(options={"state": state})
    assert len(np.unique(env.render().reshape(-1, 3), axis=0)) >= 5


def test_no_picture_without_a_render_mode():
    with pytest.warns(UserWarning, match="render_mode"):
        assert PointMass1DEnv().render() is None
