"""Arrays of numbers and texts as tensors of bytes, and back with dtype, shape, order and flags."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

__all__ = ["pack_array", "unpack_array"]


def pack_array(value: np.ndarray | np.generic, place: str) -> dict[str, Any]:
    """Return what a checkpoint holds of an array without objects.

    :raises ValueError: for records, and for elements without a size.
    """
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.names is not None or array.dtype.itemsize == 0:
        raise ValueError(f"{place} is an array of dtype {array.dtype}, which a checkpoint does not hold")
    # Sums are rounded in the order of the memory.
    order: Literal["C", "F"] = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    # As bytes, because torch knows fewer dtypes than NumPy.
    content = torch.from_numpy(np.frombuffer(array.tobytes(order), dtype=np.uint8).copy())
    packed: dict[str, Any] = {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": content}
    if order == "F":
        packed["order"] = "F"
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        packed["read_only"] = True
    return packed


def unpack_array(packed: dict[str, Any]) -> np.ndarray:
    """Return the array that :func:`pack_array` was given.

    :raises ValueError: for what it does not return.
    """
    dtype = np.dtype(str(packed["dtype"]))
    if dtype.str != packed["dtype"] or dtype.hasobject or dtype.names is not None:
        raise ValueError(f"an array has the dtype {dtype}, which a checkpoint does not hold")
    data = packed["bytes"].numpy().tobytes()
    if dtype == np.bool_ and data.strip(b"\0\1"):
        raise ValueError("an array of booleans holds other bytes than 0 and 1")
    order: Literal["C", "F"] = "F" if packed.get("order") == "F" else "C"
    array: np.ndarray = np.frombuffer(data, dtype=dtype).reshape(packed["shape"], order=order).copy(order)
    array.flags.writeable = not packed.get("read_only", False)
    return array
