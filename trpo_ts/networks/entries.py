"""The parts of observations that a network was built for, or an error that says what there is instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["check_shape", "entry"]

_FIX = "build policy and critic from the environment's own observation_space"


def entry(obs: Any, key: str) -> Any:
    """Return one entry of Dict observations.

    :raises ValueError: where they have no such key.
    """
    keys = obs.keys() if hasattr(obs, "keys") else None
    if keys is not None and key in keys:
        return obs[key]
    got = type(obs).__name__ if keys is None else f"the keys {', '.join(map(repr, keys))}"
    raise ValueError(
        f"observations must have the key {key!r} of the observation_space that the network was built for, got "
        f"{got}; {_FIX}, or from one with the keys that Tianshou's wrappers give them"
    )


def check_shape(found: Sequence[int], expected: Sequence[int]) -> None:
    """Check that observations are such as the network was built for.

    :param found: the shape of the observations, ``(N, ...)``.
    :param expected: the shape of one observation in the space.
    :raises ValueError: naming both.
    """
    if tuple(found[1:]) != tuple(expected):
        raise ValueError(
            f"observations must have the shape {('N', *expected)} of the observation_space that the network was built "
            f"for, got {tuple(found)}; {_FIX}".replace("'N'", "N")
        )
