"""A point mass on a line that must come to rest at a goal: a continuous-control task learnt in seconds."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final, TypeVar, overload

import gymnasium as gym
import numpy as np
import numpy.typing as npt

__all__ = ["POINT_MASS_HORIZON", "PointMass1DEnv"]

POINT_MASS_HORIZON: Final = 150
"""Time limit of the registered task, in environment steps."""

VELOCITY_RETAINED: Final = 0.99
VELOCITY_WEIGHT: Final = 0.1
ACTION_WEIGHT: Final = 0.001

WIDTH: Final = 480
HEIGHT: Final = 160

FloatArray = npt.NDArray[np.float64]
Real = TypeVar("Real", float, FloatArray)


class PointMass1DEnv(gym.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]):
    """Push a damped unit mass to the goal and stop it there.

    With position x, velocity v and the action a clipped to ``[-action_max, action_max]``, one step is

        v' = 0.99 v + a dt,    x' = x + v' dt,
        r  = -((x' - goal_x)² + 0.1 v'² + 0.001 a²),

    and the episode terminates, with ``goal_bonus`` added to r, once |x' - goal_x| and |v'| are both below
    ``goal_tol``. It never truncates: ``gymnasium.make("PointMass1D-v0")`` adds a time limit. The observation
    is (x, v) in float32 and has no bound, since the position has none; the state is kept in float64.

    :param dt: length of a step in seconds, positive.
    :param x_init_range: the first position is uniform in ± this, in metres.
    :param v_init_range: the first velocity is uniform in ± this, in metres per second.
    :param action_max: the largest acceleration in metres per second squared, positive.
    :param goal_x: where to stop, in metres.
    :param goal_tol: half-width of the goal, in position and in velocity, positive.
    :param goal_bonus: reward for reaching the goal.
    :param seed: seeds the initial states from construction on, as ``reset(seed=...)`` does later.
    :param render_mode: ``"rgb_array"`` or None.
    :raises ValueError: if a parameter is outside its range.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[misc]

    def __init__(
        self,
        dt: float = 0.05,
        x_init_range: float = 2.0,
        v_init_range: float = 0.5,
        action_max: float = 1.0,
        goal_x: float = 0.0,
        goal_tol: float = 0.05,
        goal_bonus: float = 5.0,
        seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.dt = _number("dt", dt, "> 0")
        self.x_init_range = _number("x_init_range", x_init_range, ">= 0")
        self.v_init_range = _number("v_init_range", v_init_range, ">= 0")
        self.action_max = _number("action_max", action_max, "> 0")
        self.goal_x = _number("goal_x", goal_x)
        self.goal_tol = _number("goal_tol", goal_tol, "> 0")
        self.goal_bonus = _number("goal_bonus", goal_bonus)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; pass 'rgb_array' or None")
        self.render_mode = render_mode
        self.action_space = gym.spaces.Box(-self.action_max, self.action_max, (1,), np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self._x = 0.0
        self._v = 0.0
        if seed is not None:
            super().reset(seed=seed)

    @overload
    def at_goal(self, x: float, v: float) -> bool: ...
    @overload
    def at_goal(self, x: FloatArray, v: FloatArray) -> npt.NDArray[np.bool_]: ...
    def at_goal(self, x: Any, v: Any) -> Any:
        """Tell whether a state, or each of an array of states, lies inside the goal."""
        return (abs(x - self.goal_x) < self.goal_tol) & (abs(v) < self.goal_tol)

    def advance(self, x: Real, v: Real, action: Real) -> tuple[Real, Real]:
        """Return (x', v') for floats or broadcasting arrays; the action is taken as already clipped."""
        v = VELOCITY_RETAINED * v + action * self.dt
        return x + v * self.dt, v

    def cost(self, x: Real, v: Real, action: Real) -> Real:
        """Return the quadratic cost of arriving in (x, v) by ``action``, without the bonus."""
        distance = x - self.goal_x
        return distance * distance + VELOCITY_WEIGHT * (v * v) + ACTION_WEIGHT * (action * action)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Draw a first state, or take the one in ``options={"state": (x, v)}``.

        :raises ValueError: if an option is unknown or the state is not two finite numbers.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - {"state"}:
            raise ValueError(f"options has {sorted(map(str, unknown))}; the only option is 'state', a pair (x, v)")
        if "state" in options:
            self._x, self._v = _state(options["state"])
        else:
            self._x = self.np_random.uniform(-self.x_init_range, self.x_init_range)
            self._v = self.np_random.uniform(-self.v_init_range, self.v_init_range)
        return self._observation(), {}

    def step(self, action: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply an acceleration for ``dt`` seconds.

        :raises ValueError: if the action is not one finite number in an array of shape (1,).
        """
        acceleration = min(max(_acceleration(action), -self.action_max), self.action_max)
        self._x, self._v = self.advance(self._x, self._v, acceleration)
        reward = -self.cost(self._x, self._v, acceleration)
        terminated = self.at_goal(self._x, self._v)
        if terminated:
            reward += self.goal_bonus
        return self._observation(), reward, terminated, False, {}

    def get_state(self) -> dict[str, Any]:
        """Return position, velocity and random generator as plain numbers and strings, safe in a checkpoint.

        The steps counted by a surrounding ``TimeLimit`` are the wrapper's and are not in here.
        """
        return {"x": self._x, "v": self._v, "np_random": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called, here or in another environment of equal parameters.

        :raises ValueError: if an entry is missing or is not what `get_state` returns.
        """
        if missing := {"x", "v", "np_random"} - set(state):
            raise ValueError(f"state lacks {sorted(missing)}; pass what get_state() returned")
        x, v = _state((state["x"], state["v"]))
        # A fresh generator: the present one may be shared with whoever handed it in.
        bit_generator = np.random.PCG64()
        try:
            bit_generator.state = state["np_random"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("state['np_random'] is no PCG64 state; pass what get_state() returned") from error
        self.np_random = np.random.Generator(bit_generator)
        self._x, self._v = x, v

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Draw track, goal, mass and velocity, of shape (160, 480, 3); without a render mode, return None."""
        if self.render_mode is None:
            gym.logger.warn('nothing is rendered: pass render_mode="rgb_array" to the constructor or to make')
            return None
        half_width = 1.25 * max(self.x_init_range + abs(self.goal_x), 4.0 * self.goal_tol)
        pixels = 0.5 * WIDTH / half_width
        return _draw(pixels * self._x, pixels * self._v, pixels * self.goal_x, pixels * self.goal_tol)

    def _observation(self) -> npt.NDArray[np.float32]:
        return np.array((self._x, self._v), dtype=np.float32)


def _number(name: str, value: Any, range_: str = "") -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = {"": True, ">= 0": number >= 0.0, "> 0": number > 0.0}[range_]
    if not (inside and math.isfinite(number)):
        raise ValueError(f"{name} is {value!r}; pass a finite number {range_}".rstrip())
    return number


def _state(pair: Any) -> tuple[float, float]:
    if np.shape(pair) != (2,):
        raise ValueError(f"state is {pair!r}; pass a pair (x, v) of finite numbers")
    return _number("state[0]", pair[0]), _number("state[1]", pair[1])


def _acceleration(action: Any) -> float:
    # Clipping would turn an infinite action into a sound one and hide that its policy has diverged.
    if np.shape(action) != (1,) or not math.isfinite(value := float(action[0])):
        raise ValueError(f"action is {action!r}; pass one finite number in an array of shape (1,)")
    return value


def _draw(x: float, v: float, goal: float, tolerance: float) -> npt.NDArray[np.uint8]:
    """Paint back to front; all lengths in pixels, positions from the middle of the image."""
    image = np.full((HEIGHT, WIDTH, 3), (248, 249, 251), dtype=np.uint8)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    track, middle, radius = 112, WIDTH // 2, 16
    # Beyond the edge of the image the mass waits at the edge, half visible.
    mass = middle + min(max(x, -middle), middle)
    height = track - radius
    goal_column = middle + goal
    image[track : track + 3] = (90, 98, 110)
    image[(rows > track + 3) & (rows < track + 10) & ((columns - middle) % 60 == 0)] = (170, 176, 186)
    # The goal is a lit zone with a line in its middle; never thinner than can be seen.
    zone = (abs(columns - goal_column) <= max(tolerance, 4.0)) & (rows > 40) & (rows < track)
    image[zone] = (190, 232, 200)
    image[(abs(columns - goal_column) < 1.0) & (rows > 28) & (rows < track)] = (46, 160, 90)
    image[(columns - mass) ** 2 + (rows - height) ** 2 <= radius**2] = (47, 98, 190)
    # The arrow is as long as the way of one second.
    along = (columns - mass) * math.copysign(1.0, v)
    shaft = (along >= 0) & (along <= abs(v) - 6) & (abs(rows - height) <= 1)
    head = (along >= max(abs(v) - 8, 0)) & (abs(rows - height) <= 0.8 * (abs(v) - along))
    image[shaft | head] = (240, 140, 40)
    return image
