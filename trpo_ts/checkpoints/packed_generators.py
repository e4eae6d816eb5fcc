"""NumPy's random generators as plain numbers, and back: their states, and the seeds of those that they spawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["bit_generator_state", "check_bit_generator_state", "check_number", "unpack_generator"]

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_ARRAYS: dict[str, dict[str, tuple[int, type]]] = {
    "MT19937": {"key": (624, np.uint32)},
    "Philox": {"counter": (4, np.uint64), "key": (2, np.uint64)},
    "SFC64": {"state": (4, np.uint64)},
}
"""The arrays in a state: length and dtype."""

_MOST = 4096
"""How many numbers, of how many bits each, a seed may be made of: to mix more would take long."""


def bit_generator_state(generator: np.random.Generator, place: str) -> dict[str, Any]:
    """Return state and seeds of a generator.

    :raises ValueError: for one of another library, which this one could not make again.
    """
    bits = generator.bit_generator
    name = type(bits).__name__
    if type(generator) is not np.random.Generator or name not in _BIT_GENERATORS or not _is_numpys(bits):
        raise ValueError(f"{place} is a generator of {type(generator).__name__} and {name}, which are not NumPy's own")
    seeds = bits.seed_seq
    state: dict[str, Any] = {"state": bits.state}
    if type(seeds) is np.random.SeedSequence:
        _check_seeds(seeds.state)
        state["seed_sequence"] = seeds.state
    return state


def unpack_generator(packed: dict[str, Any], unpack: Callable[[Any], Any]) -> np.random.Generator:
    """Return the generator whose state and seeds were packed.

    :raises ValueError: for numbers that are none of a generator's: NumPy itself reads beyond its memory with them.
    """
    state = unpack(packed["state"])
    check_bit_generator_state(state)
    seeds = None
    if packed.get("seed_sequence") is not None:  # checkpoints of earlier versions have none
        seeds_state = unpack(packed["seed_sequence"])
        _check_seeds(seeds_state)
        seeds = np.random.SeedSequence(**seeds_state)
    bits = getattr(np.random, state["bit_generator"])(seeds)
    bits.state = state
    return np.random.Generator(bits)


def check_bit_generator_state(state: dict[str, Any]) -> None:
    """Check every number in the state of one of NumPy's bit generators.

    :raises ValueError: for one outside its range, naming it.
    """
    name, inner = state["bit_generator"], state["state"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"a generator must be one of {_BIT_GENERATORS}, got {str(name)[:40]!r}")
    for field, (length, dtype) in _ARRAYS.get(name, {}).items():
        _check_array(f"{field} of {name}", inner[field], length, dtype)
    if name == "MT19937":
        check_number("pos of MT19937", inner["pos"], 0, 624)
        return
    if name in ("PCG64", "PCG64DXSM"):
        for field in ("state", "inc"):
            check_number(f"{field} of {name}", inner[field], 0, 2**128 - 1)
    if name == "Philox":
        _check_array("buffer of Philox", state["buffer"], 4, np.uint64)
        check_number("buffer_pos of Philox", state["buffer_pos"], 0, 4)
    check_number(f"has_uint32 of {name}", state["has_uint32"], 0, 1)
    check_number(f"uinteger of {name}", state["uinteger"], 0, 2**32 - 1)


def check_number(name: str, value: Any, low: int, high: int) -> None:
    """Check that a number of a generator is an integer in a range.

    :raises ValueError: otherwise.
    """
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be an integer in [{low}, {high}], got {str(value)[:40]}")


def _check_array(name: str, value: Any, length: int, dtype: type) -> None:
    if not isinstance(value, np.ndarray) or value.shape != (length,) or value.dtype != dtype:
        raise ValueError(f"{name} must be an array of {length} numbers of {dtype.__name__}")


def _check_seeds(state: Mapping[str, Any]) -> None:
    entropy, spawn_key = state["entropy"], state["spawn_key"]
    for name, value in (("entropy", entropy), ("spawn_key", spawn_key)):
        numbers = [value] if isinstance(value, int) else np.asarray(value).ravel().tolist()
        if len(numbers) > _MOST:
            raise ValueError(f"{name} of a SeedSequence must be at most {_MOST} numbers, got {len(numbers)}")
        for number in numbers:
            check_number(f"{name} of a SeedSequence", number, 0, 2**_MOST)
    check_number("pool_size of a SeedSequence", state["pool_size"], 4, 64)
    check_number("n_children_spawned of a SeedSequence", state["n_children_spawned"], 0, 2**32)


def _is_numpys(bits: np.random.BitGenerator) -> bool:
    return type(bits) is getattr(np.random, type(bits).__name__)
