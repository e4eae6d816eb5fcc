"""Random observations of a space, and structured values by the names of their parts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from trpo_ts.agents.acting_agent import ActingAgent
from trpo_ts.policies.masked import MaskedActor

__all__ = ["example_observations", "parts_of_value"]


def example_observations(agent: ActingAgent, count: int) -> Any:
    """Return observations that an agent can act on, always the same ones; a mask allows every action.

    :param count: how many, N.
    :return: an array ``(N, ...)``, or a dict of such.
    """
    masks = {module.mask_key for module in agent.policy.modules() if isinstance(module, MaskedActor)}
    obs = _random(agent.observation_space, count, np.random.default_rng(0))
    for key in masks:
        obs[key] = np.ones_like(obs[key])
    return obs


def _random(space: gym.Space[Any], count: int, rng: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _random(part, count, rng) for key, part in space.spaces.items()}
    shape = (count, *(space.shape or ()))
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        # Not uniform: bounds may be as wide as the numbers of the dtype.
        return np.clip(rng.standard_normal(shape), space.low, space.high).astype(space.dtype)
    if isinstance(space, spaces.Box):
        low, high = (np.clip(bound.astype(float), -1000.0, 1000.0) for bound in (space.low, space.high))
        return np.rint(rng.uniform(low, high, shape)).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(0, 2, shape).astype(space.dtype)
    counts = space.n if isinstance(space, spaces.Discrete) else space.nvec  # type: ignore[attr-defined]
    return (rng.integers(0, counts, shape) + space.start).astype(space.dtype)  # type: ignore[attr-defined]


def parts_of_value(space: gym.Space[Any], name: str, value: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a batch of structured values by their names, ``name.key`` for the entry of a Dict."""
    if isinstance(space, spaces.Dict):
        parts: Any = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
    else:
        return {name: np.asarray(value)}
    found: dict[str, np.ndarray] = {}
    for key, part in parts:
        new = parts_of_value(part, f"{name}.{key}", value[key])
        if new.keys() & found.keys():
            raise ValueError(f"two parts of {space} are called {sorted(new.keys() & found.keys())[0]!r}; rename a key")
        found |= new
    return found
