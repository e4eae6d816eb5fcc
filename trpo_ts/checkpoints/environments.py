"""The states of environments, for those that can be written down."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from trpo_ts.checkpoints.mujoco import OWN_ATTRIBUTES, is_mujoco_task, physics_of, set_physics
from trpo_ts.checkpoints.packing import pack

__all__ = ["check_environment_state", "environment_state", "set_environment_state"]

_CONSTANTS = (type, types.ModuleType, types.BuiltinFunctionType, np.dtype, np.ufunc, EnvSpec)
_CONSTRUCTOR_ARGUMENTS = "_saved_kwargs"
"""What gymnasium's wrappers remember of their construction."""


def environment_state(env: gym.Env[Any, Any]) -> list[dict[str, Any]] | None:
    """Return the states of an environment's wrappers and of itself, or None where one of them cannot be written down.

    A layer whose ``get_state()`` returns a dict that its ``set_state(state)`` takes speaks for itself. Of gymnasium's
    MuJoCo tasks the physics are taken; of the rest all attributes, provided that they are numbers, texts, arrays,
    random generators or containers of these: a simulator behind others would be left out.
    """
    try:
        states = [_layer_state(layer) for layer in _layers(env)]
    except ValueError:
        return None
    shared = [id_ for layer in _layers(env) if not _speaks(layer) for id_ in _mutable(_attributes(layer).values())]
    # Two names of one array would become two arrays.
    return states if len(shared) == len(set(shared)) else None


def check_environment_state(env: gym.Env[Any, Any], states: list[dict[str, Any]]) -> None:
    """Check that states are those of an environment that was built like this one.

    :raises ValueError: when the wrappers, or what is wrapped, are others.
    """
    here, there = [_name(layer) for layer in _layers(env)], [state["class"] for state in states]
    if here != there:
        raise ValueError(f"the environments must be {there}, got {here}")


def set_environment_state(env: gym.Env[Any, Any], states: list[dict[str, Any]]) -> None:
    """Continue where :func:`environment_state` was called, in an environment that was built in the same way."""
    for layer, state in zip(_layers(env), states, strict=True):
        if _speaks(layer):
            layer.set_state(state["own"])
        else:
            for name, value in state["attributes"].items():
                setattr(layer, name, value)
        if "physics" in state:
            set_physics(layer, state["physics"])
        for name, generators in state["spaces"].items():
            for space, generator in zip(_subspaces(getattr(layer, name)), generators, strict=True):
                space._np_random = generator  # None where the space has drawn nothing yet


def _layer_state(layer: Any) -> dict[str, Any]:
    spaces = {name: value for name, value in vars(layer).items() if isinstance(value, gym.Space)}
    state = {
        "class": _name(layer),
        "spaces": {name: [sub._np_random for sub in _subspaces(space)] for name, space in spaces.items()},
        **({"own": _own_state(layer)} if _speaks(layer) else {"attributes": _attributes(layer)}),
    }
    pack(state)  # raises for what cannot be written down
    return {**state, "physics": physics_of(layer)} if is_mujoco_task(layer) else state


def _own_state(layer: Any) -> dict[str, Any]:
    state = layer.get_state()
    if not isinstance(state, dict):  # a method of that name may mean something else
        raise ValueError(f"get_state() of {_name(layer)} returns no dict")
    return state


def _layers(env: gym.Env[Any, Any]) -> Iterator[Any]:
    while env is not env.unwrapped:
        yield env
        env = env.env  # type: ignore[attr-defined]
    yield env


def _name(layer: object) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _speaks(layer: object) -> bool:
    return all(callable(getattr(type(layer), name, None)) for name in ("get_state", "set_state"))


def _attributes(layer: object) -> dict[str, Any]:
    other = ("env", _CONSTRUCTOR_ARGUMENTS, *(OWN_ATTRIBUTES if is_mujoco_task(layer) else ()))
    return {name: value for name, value in vars(layer).items() if name not in other and not _is_constant(value)}


def _is_constant(value: object) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__closure__ is None  # a closure may hold anything
    return isinstance(value, (*_CONSTANTS, gym.Space))


def _subspaces(space: gym.Space[Any]) -> Iterator[gym.Space[Any]]:
    yield space
    children = getattr(space, "spaces", ())
    for child in children.values() if isinstance(children, dict) else children:
        yield from _subspaces(child)


def _mutable(values: Iterable[Any]) -> Iterator[int]:
    """Yield the identities of all containers, arrays and generators; of views, that of the array behind them."""
    for value in values:
        if isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            yield id(value)
        elif isinstance(value, dict | list | deque | np.random.Generator):
            yield id(value)
        if isinstance(value, dict | list | tuple | deque):
            yield from _mutable(value.values() if isinstance(value, dict) else value)
