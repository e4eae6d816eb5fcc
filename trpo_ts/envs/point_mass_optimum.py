"""The best return that any controller reaches on the point mass, by dynamic programming.

``python -m trpo_ts.envs.point_mass_optimum`` solves on finer and finer grids and prints what each one earns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trpo_ts.envs.point_mass import POINT_MASS_HORIZON, VELOCITY_RETAINED, FloatArray, PointMass1DEnv

__all__ = [
    "POINT_MASS_BEST_RETURN",
    "BestController",
    "MeanReturn",
    "evaluate",
    "simulate",
    "solve_point_mass",
]

# Computed by `python -m trpo_ts.envs.point_mass_optimum`, whose last lines read
#   161² nodes, 41 actions,  0.32 s: mean return -22.3581 ± 0.0009
#   321² nodes, 81 actions,  2.30 s: mean return -22.3567 ± 0.0009
POINT_MASS_BEST_RETURN: Final = -22.36
"""Mean undiscounted return of the best controller over the initial states of ``PointMass1D-v0``."""

Controller = Callable[[int, FloatArray, FloatArray], FloatArray]
"""Maps the number of steps taken, positions and velocities to accelerations."""


class MeanReturn(NamedTuple):
    """A mean return over the initial states and the standard error of that mean."""

    mean: float
    standard_error: float


@dataclass(frozen=True, eq=False)
class BestController:
    """Greedy one-step look-ahead on the value functions of dynamic programming.

    :param env: whose dynamics and reward were solved.
    :param positions: nodes of the grid in x, of shape (nx,).
    :param velocities: nodes of the grid in v, of shape (nv,).
    :param accelerations: the actions tried, of shape (na,).
    :param values: value functions of shape (stages, nv, nx); ``values[n]`` is the best sum of rewards in n
        more steps. The last one is that of every larger n too: there the recursion no longer changed.
    :param horizon: steps in an episode.
    """

    env: PointMass1DEnv
    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray
    values: FloatArray
    horizon: int

    def action(self, t: int, x: FloatArray, v: FloatArray) -> FloatArray:
        """Return argmaxₐ r + V(x', v') in float64, of the shape of x, for step ``t`` counted from 0."""
        if not 0 <= t < self.horizon:
            raise ValueError(f"t is {t}; pass a step from 0 to {self.horizon - 1}")
        tried = self.accelerations
        x_next, v_next = self.env.advance(np.asarray(x)[..., None], np.asarray(v)[..., None], tried)
        value = self._value(self.horizon - 1 - t, x_next, v_next)
        after = np.where(self.env.at_goal(x_next, v_next), self.env.goal_bonus, value)
        best: npt.NDArray[np.intp] = np.argmax(after - self.env.cost(x_next, v_next, tried), axis=-1)
        return tried[best]

    def _value(self, steps_left: int, x: FloatArray, v: FloatArray) -> FloatArray:
        table = self.values[min(steps_left, len(self.values) - 1)]
        i, right = _locate(self.positions, x)
        j, up = _locate(self.velocities, v)
        below = (1.0 - right) * table[j, i] + right * table[j, i + 1]
        above = (1.0 - right) * table[j + 1, i] + right * table[j + 1, i + 1]
        value: FloatArray = (1.0 - up) * below + up * above
        return value


def solve_point_mass(
    env: PointMass1DEnv | None = None,
    *,
    nodes: int = 161,
    actions: int = 41,
    horizon: int = POINT_MASS_HORIZON,
) -> BestController:
    """Solve the finite-horizon problem by backward value iteration.

        V₀ = 0,    Vₙ₊₁(x, v) = maxₐ r(x', v', a) + (0 if (x', v') is at the goal else Vₙ(x', v'))

    Vₙ is interpolated bilinearly between ``nodes`` × ``nodes`` points; ``actions`` equally spaced actions are
    tried. A state inside the goal has a value too, that of an episode which starts there; so V does not jump
    at the edge of the goal, and interpolation loses little.

    :param env: dynamics and reward; the registered task's when None.
    :raises ValueError: if a count is too small.
    """
    for name, count, least in (("nodes", nodes, 3), ("actions", actions, 2), ("horizon", horizon, 1)):
        if count < least:
            raise ValueError(f"{name} is {count}; pass an integer >= {least}")
    env = env or PointMass1DEnv()
    positions, velocities = _grid(env, nodes)
    tried = np.linspace(-env.action_max, env.action_max, actions)
    entering = _entry_returns(env, positions, velocities, tried)
    backup = _backup(env, positions, velocities, tried)
    values = [np.zeros((nodes, nodes))]
    for _ in range(horizon):
        values.append(np.maximum(entering, backup(values[-1])))
        if np.max(np.abs(values[-1] - values[-2])) < 1e-6:
            break
    return BestController(env, positions, velocities, tried, np.stack(values), horizon)


def _grid(env: PointMass1DEnv, nodes: int) -> tuple[FloatArray, FloatArray]:
    # The goal and the curve where the best action changes sign meet at the goal, so the nodes crowd there.
    # In x: as far as a first velocity carries a mass that brakes. In v: above the top speed of the quickest
    # way from there, sqrt(a x), and below the speed at which damping balances the largest action.
    reach = 1.1 * (env.x_init_range + abs(env.goal_x) + 0.5 * env.v_init_range**2 / env.action_max) + env.goal_tol
    balance = env.action_max * env.dt / (1.0 - VELOCITY_RETAINED)
    speed = max(env.v_init_range, min(1.3 * (env.action_max * reach) ** 0.5, balance))
    unit = np.linspace(-1.0, 1.0, nodes)
    return env.goal_x + reach * np.sinh(3.0 * unit) / np.sinh(3.0), speed * np.sinh(2.0 * unit) / np.sinh(2.0)


def _entry_returns(env: PointMass1DEnv, positions: FloatArray, velocities: FloatArray, tried: FloatArray) -> FloatArray:
    """Return, of shape (nv, nx), the best reward of a step that ends at the goal, and -inf where none does.

    The goal test sees the exact successor, not an interpolation, which would blur the edge of the goal.
    """
    x, v = env.advance(positions[None, :, None], velocities[:, None, None], tried)
    reward = env.goal_bonus - env.cost(x, v, tried)
    best: FloatArray = np.where(env.at_goal(x, v), reward, -np.inf).max(axis=-1)
    return best


def _backup(
    env: PointMass1DEnv, positions: FloatArray, velocities: FloatArray, tried: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    """Return V -> maxₐ r + V(x', v'), of shape (nv, nx), over all steps as if none ended the episode.

    Since x' = x + v' dt depends on the action only through v', it is enough to interpolate V once in x, for
    each v' on the grid, and then once in v for each action.
    """
    rows = np.arange(len(velocities))[:, None]
    arrived = positions + velocities[:, None] * env.dt
    i, right = _locate(positions, arrived)
    cost = env.cost(arrived, velocities[:, None], np.zeros(1))
    _, v_next = env.advance(np.zeros(1), velocities, tried[:, None])
    effort = env.cost(np.full(1, env.goal_x), np.zeros(1), tried)
    moves = list(zip(*_locate(velocities, v_next), effort, strict=True))

    def backup(value: FloatArray) -> FloatArray:
        onward = (1.0 - right) * value[rows, i] + right * value[rows, i + 1] - cost
        best = np.full_like(value, -np.inf)
        for index, share, price in moves:
            up = share[:, None]
            np.maximum(best, (1.0 - up) * onward[index] + up * onward[index + 1] - price, out=best)
        return best

    return backup


def _locate(nodes: FloatArray, points: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return the cell of each point and its share of the upper node; beyond the grid, those of its edge."""
    cell = np.clip(np.searchsorted(nodes, points, side="right") - 1, 0, len(nodes) - 2)
    share = (points - nodes[cell]) / (nodes[cell + 1] - nodes[cell])
    return cell, np.clip(share, 0.0, 1.0)


def simulate(
    controller: Controller,
    x: FloatArray,
    v: FloatArray,
    env: PointMass1DEnv | None = None,
    *,
    horizon: int = POINT_MASS_HORIZON,
) -> FloatArray:
    """Return the undiscounted return of one exact episode from each first state (x, v).

    :param controller: called as ``controller(t, x, v)`` with the states of the episodes still running; its
        actions are clipped as the environment clips them.
    """
    env = env or PointMass1DEnv()
    returns = np.zeros(len(x))
    running = np.arange(len(x))
    for t in range(horizon):
        action = np.clip(controller(t, x, v), -env.action_max, env.action_max)
        x, v = env.advance(x, v, action)
        arrived = env.at_goal(x, v)
        returns[running] += env.goal_bonus * arrived - env.cost(x, v, action)
        running, x, v = running[~arrived], x[~arrived], v[~arrived]
        if not len(running):
            break
    return returns


def evaluate(
    controller: Controller,
    env: PointMass1DEnv | None = None,
    *,
    strata: int = 32,
    seed: int = 0,
    horizon: int = POINT_MASS_HORIZON,
) -> MeanReturn:
    """Measure a controller's mean return over the initial states, without bias.

    Returns differ by some 29 (standard deviation) between first states, so 4,000 plain draws would leave a
    standard error of 0.5. Instead the initial states are cut into ``strata`` × ``strata`` equal cells, each
    with two random states and their mirror images about its centre. With the mean returns m₁, m₂ of the two
    mirrored pairs of a cell, the squared standard error is Σ (m₁ - m₂)² / (4 cells²).
    """
    if strata < 1:
        raise ValueError(f"strata is {strata}; pass an integer >= 1")
    env = env or PointMass1DEnv()
    cells = np.indices((strata, strata)).reshape(2, 1, 1, -1)
    offset = np.random.default_rng(seed).random((2, 1, 2, strata**2))
    x, v = 2.0 * (cells + np.concatenate((offset, 1.0 - offset), axis=1)).reshape(2, -1) / strata - 1.0
    returns = simulate(controller, env.x_init_range * x, env.v_init_range * v, env, horizon=horizon)
    first, second = returns.reshape(2, 2, -1).mean(axis=0)
    error = np.sqrt(np.sum((first - second) ** 2)) / (2.0 * strata**2)
    return MeanReturn(float(returns.mean()), float(error))


def _main() -> None:
    for nodes, actions in ((41, 21), (81, 41), (161, 41), (321, 81)):
        start = time.perf_counter()
        controller = solve_point_mass(nodes=nodes, actions=actions)
        seconds = time.perf_counter() - start
        mean, error = evaluate(controller.action)
        print(f"{nodes:3d}² nodes, {actions:2d} actions, {seconds:5.2f} s: mean return {mean:.4f} ± {error:.4f}")


if __name__ == "__main__":
    _main()
