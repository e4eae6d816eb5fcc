"""What of an environment is taken to be as it was built, in a few letters that tell whether it is."""

from __future__ import annotations

import enum
import hashlib
import logging
import re
import types
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

__all__ = ["class_fingerprints", "fingerprint", "is_constant"]

_CONSTANTS = (type, types.ModuleType, types.BuiltinFunctionType, types.FunctionType, np.dtype, np.ufunc, EnvSpec)
_NAMED = (logging.Logger, re.Pattern, enum.Enum, types.GenericAlias)
"""What a class may hold besides values: its text tells what it is."""

_IMMUTABLE_TYPE = 1 << 8
"""The flag of classes in C, whose attributes cannot be set."""


def is_constant(value: object) -> bool:
    """Return whether an attribute is code or a definition, which an environment that is built in the same way has too.

    Spaces are among them: the generators that they draw from are saved. Functions that keep something are not, and
    methods of an object are not.
    """
    if isinstance(value, types.FunctionType):
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return value.__closure__ is None and not vars(value) and all(map(_is_fixed, defaults))
    if isinstance(value, types.BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    if isinstance(value, np.ufunc):
        return not all(set(signature) <= set("O->") for signature in value.types)  # else made of a Python function
    return isinstance(value, (*_CONSTANTS, gym.Space))


def fingerprint(value: object) -> str:
    """Return a text that is the same in another process if and only if a constant is.

    :raises ValueError: for a value in a class or a space that may be anything.
    """
    return hashlib.blake2b(_description(value).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def class_fingerprints(cls: type) -> dict[str, str]:
    """Return the fingerprints of all values that a class and its bases hold, code left out.

    :raises ValueError: for a value that may be anything.
    """
    found = {}
    for base in cls.__mro__:
        if base.__flags__ & _IMMUTABLE_TYPE:
            continue
        for name, value in vars(base).items():
            code = hasattr(type(value), "__get__")  # functions, properties and what else belongs to a class
            if not (code or name.startswith("_abc_") or (name.startswith("__") and name.endswith("__"))):
                place = f"{base.__name__}.{name}"
                try:
                    found[place] = fingerprint(_name(value) if isinstance(value, type) else value)
                except ValueError as error:
                    raise ValueError(f"{place} {error}") from error
    return found


def _description(value: Any) -> str:
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes, complex):
        return repr(value)
    if isinstance(value, dict):
        return f"{kind.__name__}{[(_description(key), _description(item)) for key, item in value.items()]}"
    if isinstance(value, list | tuple | deque):
        return f"{kind.__name__}{[_description(item) for item in value]}"
    if isinstance(value, set | frozenset):
        return f"{kind.__name__}{sorted(_description(item) for item in value)}"
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        items = [_description(item) for item in array.flat] if array.dtype == object else array.tobytes().hex()
        return f"{array.dtype.str}{array.shape}{items}"
    if isinstance(value, torch.Tensor):
        return f"tensor{_description(value.detach().numpy())}"
    if isinstance(value, np.random.Generator):
        return _description(value.bit_generator.state)
    return _description_of_constant(value)


def _description_of_constant(value: Any) -> str:
    if isinstance(value, gym.Space):
        return _name(type(value)) + _description({k: v for k, v in vars(value).items() if k != "_np_random"})
    if isinstance(value, types.FunctionType):
        code, defaults = value.__code__, [value.__defaults__, value.__kwdefaults__]
        constants = [constant for constant in code.co_consts if _is_fixed(constant)]
        return f"{_name(value)}{code.co_code.hex()}{code.co_names}{_description([constants, defaults])}"
    if isinstance(value, type):
        return f"{_name(value)}{class_fingerprints(value)}"
    if isinstance(value, EnvSpec):
        return f"EnvSpec {value.id}"
    if isinstance(value, np.dtype):
        return value.str
    if isinstance(value, (*_CONSTANTS, *_NAMED)):
        return f"{type(value).__qualname__} {getattr(value, '__name__', value)}"
    raise ValueError(f"is of type {type(value).__qualname__}")


def _is_fixed(value: object) -> bool:
    """Return whether a value cannot change, and neither can what it holds."""
    if isinstance(value, tuple | frozenset):
        return all(map(_is_fixed, value))
    return value is None or type(value) in (bool, int, float, str, bytes, complex, type) or value is Ellipsis


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
