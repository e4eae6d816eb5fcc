"""An environment as its layers, and a layer as what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from trpo_ts.checkpoints.fingerprints import is_constant
from trpo_ts.checkpoints.mujoco import OWN_ATTRIBUTES, is_mujoco_task

__all__ = ["attributes", "layers", "name_of", "own_values", "spaces_of", "speaks", "subspaces"]

_CONSTRUCTOR_ARGUMENTS = "_saved_kwargs"
"""What gymnasium's wrappers remember of their construction."""

_SPECIFICATIONS = ("spec", "_cached_spec")


def layers(env: gym.Env[Any, Any]) -> Iterator[Any]:
    """Yield the wrappers from outside, and the environment; ``unwrapped`` may be a wrapper that shows itself so."""
    yield env
    while _is_wrapper(env):
        env = env.env  # type: ignore[attr-defined]
        yield env


def _is_wrapper(layer: object) -> bool:
    return isinstance(getattr(layer, "env", None), gym.Env)


def name_of(layer: object) -> str:
    """Return module and name of a layer's class."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def speaks(layer: object) -> bool:
    """Return whether a layer has methods for its own state."""
    return all(callable(getattr(type(layer), name, None)) for name in ("get_state", "set_state"))


def attributes(layer: object) -> dict[str, Any]:
    """Return what of a layer may change."""
    return {name: value for name, value in own_values(layer) if not is_constant(value)}


def own_values(layer: object) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that are a layer's own, without what gymnasium notes of how it was made, some of it late."""
    left_out = {_CONSTRUCTOR_ARGUMENTS, *(OWN_ATTRIBUTES if is_mujoco_task(layer) else ())}
    if _is_wrapper(layer):
        left_out.add("env")
    for name, value in vars(layer).items():
        noted = name in _SPECIFICATIONS and (value is None or isinstance(value, EnvSpec))
        if name not in left_out and not noted:
            yield name, value


def spaces_of(layer: Any) -> dict[str, gym.Space[Any]]:
    """Return the spaces among the attributes of a layer and of its class."""
    held = {name: value for base in reversed(type(layer).__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in {**held, **vars(layer)}.items() if isinstance(value, gym.Space)}


def subspaces(space: gym.Space[Any]) -> Iterator[gym.Space[Any]]:
    """Yield a space and all that it is made of."""
    yield space
    for value in vars(space).values():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        for part in parts:
            if isinstance(part, gym.Space):
                yield from subspaces(part)
