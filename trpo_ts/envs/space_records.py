"""Spaces as plain containers and arrays, which a checkpoint holds, and back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from trpo_ts.envs.flat_action import FlatAction

__all__ = ["space_of", "space_record"]


def space_record(space: gym.Space[Any]) -> dict[str, Any]:
    """Return what tells a space from others.

    :raises ValueError: for a space that is no Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple or FlatAction.
    """
    kind = type(space)
    if kind not in _FIELDS:
        raise ValueError(f"the space {space} is of the class {kind.__name__}, which a checkpoint does not describe")
    return {"kind": kind.__name__, **_FIELDS[kind](space)}


_FIELDS: dict[type, Callable[[Any], dict[str, Any]]] = {
    spaces.Box: lambda space: {"low": space.low, "high": space.high},
    spaces.Discrete: lambda space: {"n": int(space.n), "start": int(space.start), "dtype": space.dtype.name},
    spaces.MultiDiscrete: lambda space: {"nvec": space.nvec, "start": space.start, "dtype": space.dtype.name},
    spaces.MultiBinary: lambda space: {"shape": list(space.shape)},
    spaces.Dict: lambda space: {"parts": [[key, space_record(part)] for key, part in space.spaces.items()]},
    spaces.Tuple: lambda space: {"parts": [space_record(part) for part in space.spaces]},
    FlatAction: lambda space: {"structure": space_record(space.structure)},
}


def space_of(record: Mapping[str, Any]) -> gym.Space[Any]:
    """Return the space that :func:`space_record` was given.

    :raises Exception: of any kind, for what it does not return.
    """
    return _BUILDERS[record["kind"]](record)


def _dtype(record: Mapping[str, Any]) -> type[np.integer[Any]]:
    kind: type[np.integer[Any]] = np.dtype(str(record["dtype"])).type
    return kind


def _multi_binary(record: Mapping[str, Any]) -> spaces.MultiBinary:
    shape = [int(side) for side in record["shape"]]
    return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)


_BUILDERS: dict[str, Callable[[Mapping[str, Any]], gym.Space[Any]]] = {
    "Box": lambda record: spaces.Box(record["low"], record["high"], dtype=record["low"].dtype.type),
    "Discrete": lambda record: spaces.Discrete(record["n"], start=record["start"], dtype=_dtype(record)),
    "MultiDiscrete": lambda record: spaces.MultiDiscrete(record["nvec"], _dtype(record), start=record["start"]),
    "MultiBinary": _multi_binary,
    # An OrderedDict keeps its order, which is the order of the networks' inputs.
    "Dict": lambda record: spaces.Dict(OrderedDict((key, space_of(part)) for key, part in record["parts"])),
    "Tuple": lambda record: spaces.Tuple([space_of(part) for part in record["parts"]]),
    "FlatAction": lambda record: FlatAction(space_of(record["structure"])),
}
