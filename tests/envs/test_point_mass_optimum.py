"""The best controller of the point mass, and how returns are estimated."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from point_mass_states import position_and_velocity

from trpo_ts.envs import POINT_MASS_BEST_RETURN, BestController, PointMass1DEnv, evaluate, simulate, solve_point_mass


@pytest.fixture(scope="module")
def coarse() -> BestController:
    return solve_point_mass(nodes=81)


def test_coarse_solution_earns_the_published_return(coarse):
    mean, error = evaluate(coarse.action)
    # The run gave -22.3701 ± 0.0009; the exact optimum, a little above the constant, cannot be beaten.
    assert error < 0.002
    assert POINT_MASS_BEST_RETURN - 0.05 < mean < POINT_MASS_BEST_RETURN + 0.01


def test_controller_is_as_good_as_quadratic_programming_from_single_states():
    # For a fixed arrival time the problem is a convex quadratic programme (linear motion, quadratic cost, the
    # last state inside the goal). An interior-point solver gave these best returns over all arrival times.
    x, v = np.array([1.0, -2.0, 0.3, 0.1]), np.array([0.0, -0.5, 0.2, 0.0])
    exact = np.array([-11.028717, -137.463102, 3.629207, 4.934830])
    loss = exact - simulate(solve_point_mass().action, x, v)
    assert np.all(loss > -1e-5)
    assert np.all(loss < 0.01)


def test_simulation_is_the_environment_bit_for_bit(coarse):
    x, v = np.array([1.7, -0.4, 0.01]), np.array([0.3, -0.2, 0.0])
    for start, expected in zip(zip(x, v, strict=True), simulate(coarse.action, x, v), strict=True):
        env = gym.make("PointMass1D-v0")
        env.reset(options={"state": start})
        total, t, over = 0.0, 0, False
        while not over:
            here = position_and_velocity(env.unwrapped)
            _, reward, terminated, truncated, _ = env.step(coarse.action(t, *np.array(here))[None])
            total, t, over = total + reward, t + 1, terminated or truncated
        assert terminated
        assert total == expected


def test_evaluation_agrees_with_plain_sampling():
    def brake(t, x, v):
        return -x - 1.5 * v

    rng = np.random.default_rng(0)
    plain = simulate(brake, rng.uniform(-2.0, 2.0, 20_000), rng.uniform(-0.5, 0.5, 20_000))
    mean, error = evaluate(brake, strata=16)
    standard_error = plain.std() / len(plain) ** 0.5
    assert error < 0.1 * standard_error
    assert abs(plain.mean() - mean) < 4.0 * standard_error
    assert mean < POINT_MASS_BEST_RETURN


def test_solution_follows_the_goal(coarse):
    moved = solve_point_mass(PointMass1DEnv(goal_x=1.0), nodes=81)
    x, v = np.linspace(-2.0, 2.0, 9), np.linspace(-0.5, 0.5, 9)
    here = simulate(coarse.action, x, v)
    there = simulate(moved.action, x + 1.0, v, moved.env)
    np.testing.assert_allclose(there, here, atol=0.1)


def test_last_steps_are_played_for_the_time_that_is_left():
    # One step is left: the goal is out of reach, so only its quadratic cost counts, and braking is best.
    controller = solve_point_mass(nodes=41, horizon=1)
    assert controller.action(0, np.array([0.0]), np.array([1.0])) == -1.0
    with pytest.raises(ValueError, match="t is 1"):
        controller.action(1, np.array([0.0]), np.array([1.0]))


@pytest.mark.parametrize("wrong", [{"nodes": 2}, {"actions": 1}, {"horizon": 0}])
def test_too_small_a_solve_is_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is "):
        solve_point_mass(**wrong)
    with pytest.raises(ValueError, match="strata is 0"):
        evaluate(lambda t, x, v: x, strata=0)
