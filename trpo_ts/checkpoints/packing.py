"""Nested Python, NumPy and Tianshou values as plain containers and tensors, and back, type for type."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor

__all__ = ["pack", "unpack"]

_KIND = "__kind__"
"""Marks a dict that encodes something else."""

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def pack(value: Any, place: str = "value") -> Any:
    """Return ``value`` in what ``torch.load(weights_only=True)`` reads: numbers, texts, containers and tensors.

    Nothing is shared with ``value``, so that what is returned stays what it was.

    :param place: names the value in errors.
    :raises ValueError: naming the place of something that cannot be written down.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray | np.generic):
        return _pack_array(value, place)
    if isinstance(value, Batch):
        return {_KIND: "batch", "items": {key: pack(item, f"{place}.{key}") for key, item in value.items()}}
    if isinstance(value, dict):
        return _pack_dict(value, place)
    if isinstance(value, deque):
        items = [pack(item, f"{place}[{i}]") for i, item in enumerate(value)]
        return {_KIND: "deque", "items": items, "maxlen": value.maxlen}
    if type(value) in (list, tuple):
        return type(value)(pack(item, f"{place}[{i}]") for i, item in enumerate(value))
    if isinstance(value, np.random.Generator) and type(value.bit_generator).__name__ in _BIT_GENERATORS:
        return {_KIND: "generator", "state": pack(value.bit_generator.state, place)}
    raise ValueError(
        f"{place} is of type {type(value).__name__}, which a checkpoint does not hold; "
        "give numbers, texts, arrays, tensors, or containers of them"
    )


def _pack_dict(value: dict[Any, Any], place: str) -> dict[Any, Any]:
    for key in value:
        if type(key) not in (str, int) or key == _KIND:
            raise ValueError(f"{place} has the key {key!r}; the keys in a checkpoint are texts and integers")
    return {key: pack(item, f"{place}[{key!r}]") for key, item in value.items()}


def _pack_array(value: np.ndarray | np.generic, place: str) -> dict[str, Any]:
    array = np.asarray(value)
    if array.dtype == object:
        items = [pack(item, f"{place}.flat[{i}]") for i, item in enumerate(array.flat)]
        return {_KIND: "objects", "items": items, "shape": list(array.shape)}
    if array.dtype.hasobject or array.dtype.names is not None:
        raise ValueError(f"{place} is an array of dtype {array.dtype}, which a checkpoint does not hold")
    # As bytes, because torch knows fewer dtypes than NumPy.
    content = torch.from_numpy(np.frombuffer(array.tobytes(), dtype=np.uint8).copy())
    kind = "scalar" if isinstance(value, np.generic) else "array"
    return {_KIND: kind, "dtype": array.dtype.str, "shape": list(array.shape), "bytes": content}


def unpack(value: Any) -> Any:
    """Return what :func:`pack` was given.

    :raises ValueError: for what :func:`pack` does not return.
    """
    if isinstance(value, dict):
        if _KIND not in value:
            return {key: unpack(item) for key, item in value.items()}
        try:
            return _UNPACK[value[_KIND]](value)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a checkpoint holds no {value[_KIND]!r} like that: {error}") from error
    if isinstance(value, list | tuple):
        return type(value)(unpack(item) for item in value)
    return value


def _unpack_array(value: dict[str, Any]) -> np.ndarray:
    array = np.frombuffer(value["bytes"].numpy().tobytes(), dtype=np.dtype(value["dtype"]))
    return array.reshape(value["shape"]).copy()


def _unpack_objects(value: dict[str, Any]) -> np.ndarray:
    array = np.empty(len(value["items"]), dtype=object)
    for i, item in enumerate(value["items"]):
        array[i] = unpack(item)
    return array.reshape(value["shape"])


def _unpack_generator(value: dict[str, Any]) -> np.random.Generator:
    state = unpack(value["state"])
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise ValueError(f"a generator must be one of {_BIT_GENERATORS}, got {state['bit_generator']!r}")
    bit_generator = getattr(np.random, state["bit_generator"])()
    bit_generator.state = state
    return np.random.Generator(bit_generator)


_UNPACK: dict[str, Callable[[dict[str, Any]], Any]] = {
    "array": _unpack_array,
    "scalar": lambda value: _unpack_array(value)[()],
    "objects": _unpack_objects,
    "batch": lambda value: Batch({key: unpack(item) for key, item in value["items"].items()}),
    "deque": lambda value: deque(map(unpack, value["items"]), value["maxlen"]),
    "generator": _unpack_generator,
}
