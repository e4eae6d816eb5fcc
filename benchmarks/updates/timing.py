"""Wall-clock time of sides that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch.distributions import Distribution

from updates.sides import Side

__all__ = ["quotient", "seconds_of", "seconds_of_updates", "take_turns"]


def take_turns(actions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each action returned in each round, after a round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for i in range(rounds + 1):
        for name, action in actions.items():
            value = action()
            if i > 0:
                found[name].append(value)
    return found


def seconds_of(action: Callable[[], object]) -> float:
    """Return how long an action takes, with what it leaves to do on an accelerator."""
    _wait()
    start = time.perf_counter()
    action()
    _wait()
    return time.perf_counter() - start


def seconds_of_updates(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side's updates, each from the start."""

    def timed(side: Side) -> Callable[[], float]:
        def update() -> float:
            side.reset()
            with _validation(side.validates):
                return seconds_of(side.update)

        return update

    return take_turns({name: timed(side) for name, side in sides.items()}, rounds)


def quotient(numerators: list[float], denominators: list[float]) -> float:
    """Return the median over rounds of the quotient within a round."""
    return float(np.median(np.divide(numerators, denominators)))


@contextmanager
def _validation(checked: bool) -> Iterator[None]:
    """Let torch check the arguments of distributions or not, as it does where a library is used alone."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(checked)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
