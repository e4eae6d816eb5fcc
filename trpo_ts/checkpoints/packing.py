"""Nested Python, NumPy and Tianshou values as plain containers and tensors, and back, type for type."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.checkpoints.packed_arrays import pack_array, unpack_array
from trpo_ts.checkpoints.packed_generators import bit_generator_state, unpack_generator

__all__ = ["pack", "unpack"]

_KIND = "__kind__"
"""Marks a dict that encodes something else."""


def pack(value: Any, place: str = "value") -> Any:
    """Return ``value`` in plain numbers, texts, dicts, lists, tuples and tensors.

    Nothing is shared with ``value``, so that what is returned stays what it was. What is derived from a type that is
    known here, as a ``defaultdict`` is from ``dict``, is not of that type, and would come back as less than it was.

    :param place: names the value in errors.
    :raises ValueError: naming the place of something that cannot be written down.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (Tensor, nn.Parameter):
        return _pack_tensor(value, place)
    if kind is np.ndarray or isinstance(value, np.generic):
        return _pack_array(value, place)
    if kind is Batch:
        return {_KIND: "batch", "items": {key: pack(item, f"{place}.{key}") for key, item in value.items()}}
    if kind is dict:
        return _pack_dict(value, place)
    if kind in (OrderedDict, Counter):
        return {_KIND: kind.__name__, "items": _pack_dict(dict(value), place)}
    if kind is deque:
        items = [pack(item, f"{place}[{i}]") for i, item in enumerate(value)]
        return {_KIND: "deque", "items": items, "maxlen": value.maxlen}
    if kind in (list, tuple):
        return kind(pack(item, f"{place}[{i}]") for i, item in enumerate(value))
    if isinstance(value, np.random.Generator):
        return {_KIND: "generator", **_pack_dict(bit_generator_state(value, place), place)}
    raise ValueError(
        f"{place} is of type {kind.__name__}, which a checkpoint does not hold; "
        "give numbers, texts, arrays, tensors, or containers of them"
    )


def _pack_dict(value: dict[Any, Any], place: str) -> dict[Any, Any]:
    for key in value:
        if type(key) not in (str, int) or key == _KIND:
            raise ValueError(f"{place} has the key {key!r}; the keys in a checkpoint are texts and integers")
    return {key: pack(item, f"{place}[{key!r}]") for key, item in value.items()}


def _pack_tensor(value: Tensor, place: str) -> Tensor:
    if value.layout is not torch.strided or value.is_quantized:
        raise ValueError(f"{place} is a tensor that is sparse or quantised, which a checkpoint does not hold")
    return value.detach().cpu().resolve_conj().resolve_neg().clone()


def _pack_array(value: np.ndarray | np.generic, place: str) -> dict[str, Any]:
    if isinstance(value, np.ndarray) and value.dtype == object:
        items = [pack(item, f"{place}.flat[{i}]") for i, item in enumerate(value.flat)]
        return {_KIND: "objects", "items": items, "shape": list(value.shape)}
    return {_KIND: "scalar" if isinstance(value, np.generic) else "array", **pack_array(value, place)}


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
            raise ValueError(f"a checkpoint holds no {str(value[_KIND])[:40]!r} like that: {error}") from error
    if isinstance(value, list | tuple):
        return type(value)(unpack(item) for item in value)
    return value


def _unpack_objects(value: dict[str, Any]) -> np.ndarray:
    array = np.empty(len(value["items"]), dtype=object)
    for i, item in enumerate(value["items"]):
        array[i] = unpack(item)
    return array.reshape(value["shape"])


def _unpack_items(value: dict[str, Any]) -> dict[Any, Any]:
    return {key: unpack(item) for key, item in value["items"].items()}


_UNPACK: dict[str, Callable[[dict[str, Any]], Any]] = {
    "array": unpack_array,
    "scalar": lambda value: unpack_array(value)[()],
    "objects": _unpack_objects,
    "batch": lambda value: Batch(_unpack_items(value)),
    "OrderedDict": lambda value: OrderedDict(_unpack_items(value)),
    "Counter": lambda value: Counter(_unpack_items(value)),
    "deque": lambda value: deque(map(unpack, value["items"]), value["maxlen"]),
    "generator": lambda value: unpack_generator(value, unpack),
}
