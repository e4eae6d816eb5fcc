"""The states of the process's random generators."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trpo_ts.checkpoints.packed_generators import check_bit_generator_state, check_number

__all__ = ["check_generator_states", "generator_states", "set_generator_states"]

_TORCH_BYTES = 5056
_TORCH_LEFT, _TORCH_NEXT = struct.Struct("<i"), struct.Struct("<Q")
"""In a state of torch's generator on the CPU, at bytes 8 and 16: how many of its 624 numbers are left, plus one, and
where the next one is."""


def generator_states() -> dict[str, Any]:
    """Return the states of Python's generator, NumPy's global one, and torch's on CPU and on each CUDA device."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  Tianshou shuffles and samples by the global generator
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def check_generator_states(states: dict[str, Any]) -> None:
    """Check every number on which a generator finds its place: the libraries read beyond their memory with others.

    :raises ValueError: for a number that is none of a generator's, naming it.
    """
    version, words, _ = states["python"]
    check_number("version of Python's generator", version, 3, 3)
    check_number("length of Python's generator", len(words), 625, 625)
    check_number("position of Python's generator", words[-1], 0, 624)
    for word in words[:-1]:
        check_number("word of Python's generator", word, 0, 2**32 - 1)
    check_bit_generator_state(_of_numpy(states["numpy"]))
    _check_torch(states["torch"])
    for state in states["cuda"]:
        _check_bytes("CUDA", state)


def set_generator_states(states: dict[str, Any]) -> None:
    """Set what :func:`generator_states` returned; of CUDA devices as many as there are here and were there.

    :raises ValueError: see :func:`check_generator_states`; no generator is changed.
    """
    check_generator_states(states)
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
            torch.cuda.set_rng_state(state, device)


def _of_numpy(state: Any) -> dict[str, Any]:
    """Return the global state of NumPy, by default a tuple, as the dict that a generator has."""
    if isinstance(state, dict):
        return state
    name, key, position, *_ = state
    return {"bit_generator": name, "state": {"key": key, "pos": position}}


def _check_torch(state: Tensor) -> None:
    data = _check_bytes("CPU", state)
    check_number("bytes of torch's generator", len(data), _TORCH_BYTES, _TORCH_BYTES)
    (left,), (following,) = _TORCH_LEFT.unpack_from(data, 8), _TORCH_NEXT.unpack_from(data, 16)
    check_number("left of torch's generator", left, 1, 624)
    # torch checks each of the two, and reads from the place `following` as long as more than one is left.
    check_number("next of torch's generator", following, 0, 625 - left)


def _check_bytes(name: str, state: Any) -> bytes:
    if not isinstance(state, Tensor) or state.dtype is not torch.uint8 or state.ndim != 1:
        raise ValueError(f"the state of torch's generator on {name} must be a tensor of bytes")
    return state.numpy().tobytes()
