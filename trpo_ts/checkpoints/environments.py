"""The states of environments, for those that can be written down."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from trpo_ts.checkpoints.environment_layers import attributes, layers, name_of, own_values, spaces_of, speaks, subspaces
from trpo_ts.checkpoints.exactness import ExactValues, identities
from trpo_ts.checkpoints.fingerprints import class_fingerprints, fingerprint, is_constant
from trpo_ts.checkpoints.mujoco import is_mujoco_task, model_fingerprint, physics_of, set_physics
from trpo_ts.checkpoints.packing import pack

__all__ = [
    "changed_constant",
    "check_environment_state",
    "environment_state",
    "environment_states",
    "set_environment_state",
]


def environment_state(env: gym.Env[Any, Any]) -> list[dict[str, Any]] | None:
    """Return the states of an environment's wrappers and of itself, or None where one of them cannot be written down.

    A layer whose ``get_state()`` returns a dict that its ``set_state(state)`` takes speaks for itself. Of gymnasium's
    MuJoCo tasks the physics are taken; of the rest all attributes, provided that they are numbers, texts, arrays,
    tensors, random generators or containers of these, and that no two of them are one: a simulator behind others would
    be left out, and what two share would come apart. Code, definitions, what a class holds and what several
    environments share stay as they are where the state is loaded; their fingerprints are written, see
    :func:`changed_constant`.
    """
    try:
        return environment_states([env])[0]
    except ValueError:
        return None


def environment_states(envs: Sequence[gym.Env[Any, Any]]) -> list[list[dict[str, Any]]]:
    """Return :func:`environment_state` of environments that are used together.

    :raises ValueError: naming what cannot be written down.
    """
    try:
        common = _common(envs)
        return [_state(env, common) for env in envs]
    except RecursionError as error:
        raise ValueError("a value holds itself") from error


def check_environment_state(env: gym.Env[Any, Any], states: list[dict[str, Any]]) -> None:
    """Check that states are those of an environment that was built like this one.

    :raises ValueError: when the wrappers, or what is wrapped, are others.
    """
    here, there = [name_of(layer) for layer in layers(env)], [state["class"] for state in states]
    if here != there:
        raise ValueError(f"the environments must be {there}, got {here}")


def changed_constant(env: gym.Env[Any, Any], states: list[dict[str, Any]]) -> str | None:
    """Return the name of code, a definition or a value of a class that is another than when the states were written."""
    for layer, state in zip(layers(env), states, strict=True):
        if "constants" in state:  # else it speaks for itself, or is of an earlier version
            try:
                changed = _changed(layer, state["constants"], state["attributes"])
            except ValueError as error:
                return str(error)
            if changed is not None:
                return changed
    return None


def set_environment_state(env: gym.Env[Any, Any], states: list[dict[str, Any]]) -> None:
    """Continue where :func:`environment_state` was called, in an environment that was built in the same way."""
    for layer, state in zip(layers(env), states, strict=True):
        if speaks(layer):
            layer.set_state(state["own"])
        else:
            if "constants" in state:
                for name in set(attributes(layer)) - {*state["attributes"], *state["constants"]}:
                    del vars(layer)[name]  # set since
            vars(layer).update(state["attributes"])  # past setters, which may do more
        if "physics" in state:
            set_physics(layer, state["physics"])
        for name, generators in state["spaces"].items():
            for space, generator in zip(subspaces(getattr(layer, name)), generators, strict=True):
                space._np_random = generator  # None where the space has drawn nothing yet


def _state(env: gym.Env[Any, Any], common: set[int]) -> list[dict[str, Any]]:
    """Return the states of an environment's layers.

    :param common: identities of what it shares with other environments.
    """
    values = ExactValues()
    states = [_layer_state(layer, values, common) for layer in layers(env)]
    spaces = [part for layer in layers(env) for space in spaces_of(layer).values() for part in subspaces(space)]
    for space in {id(space): space for space in spaces}.values():  # one that is in several places is one
        values.add(space._np_random, f"the generator of {type(space).__name__}")
    values.check_disjoint()
    return states


def _common(envs: Sequence[gym.Env[Any, Any]]) -> set[int]:
    """Return the identities of what several environments hold, as a configuration with which all of them were made."""
    holders: dict[int, int] = {}
    common: set[int] = set()
    for number, env in enumerate(envs):
        for layer in layers(env):
            for value in ({} if speaks(layer) else attributes(layer)).values():
                common.update(i for i in identities(value) if holders.setdefault(i, number) != number)
    return common


def _layer_state(layer: Any, values: ExactValues, common: set[int]) -> dict[str, Any]:
    spaces = spaces_of(layer)
    state: dict[str, Any] = {
        "class": name_of(layer),
        "spaces": {name: [sub._np_random for sub in subspaces(space)] for name, space in spaces.items()},
    }
    if speaks(layer):
        state["own"] = _own_state(layer)
        ExactValues().add(state["own"], f"get_state() of {type(layer).__name__}")
    else:
        state["constants"], state["attributes"] = _constants(layer), {}
        for name, value in attributes(layer).items():
            if common.isdisjoint(identities(value)):
                values.add(value, f"{type(layer).__name__}.{name}")
                state["attributes"][name] = value
            else:
                state["constants"][name] = fingerprint(value)
    pack(state, type(layer).__name__)  # raises for what cannot be written down
    return {**state, "physics": physics_of(layer)} if is_mujoco_task(layer) else state


def _changed(layer: Any, constants: dict[str, str], attributes: dict[str, Any]) -> str | None:
    """Return the name of a constant that is another, is missing, or was not there and will not be replaced."""
    here = _constants(layer)
    for name, value in vars(layer).items():
        if name in constants and name not in here:
            here[name] = fingerprint(value)
    names = {**constants, **here}
    return next((n for n in names if here.get(n) != constants.get(n) and n not in attributes), None)


def _constants(layer: Any) -> dict[str, str]:
    """Return the fingerprints of all that is not written down of a layer that does not speak for itself."""
    cls = type(layer)
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, types.MemberDescriptorType):
                raise ValueError(f"{cls.__name__}.{name} is a slot")
    own = {name: fingerprint(value) for name, value in own_values(layer) if is_constant(value)}
    model = {"model": model_fingerprint(layer)} if is_mujoco_task(layer) else {}
    return {**class_fingerprints(cls), **own, **model}


def _own_state(layer: Any) -> dict[str, Any]:
    state = layer.get_state()
    if not isinstance(state, dict):  # a method of that name may mean something else
        raise ValueError(f"get_state() of {name_of(layer)} returns no dict")
    return state
