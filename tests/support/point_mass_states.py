"""Reading the state of the point mass."""

from __future__ import annotations

from trpo_ts.envs import PointMass1DEnv


def position_and_velocity(env: PointMass1DEnv) -> tuple[float, float]:
    state = env.get_state()
    return state["x"], state["v"]
