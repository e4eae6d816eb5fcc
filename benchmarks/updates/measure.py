"""What is measured: updates side by side, solves of equal accuracy, growth of the time, memory."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution

from updates.cases import Case
from updates.judge import Judge
from updates.sides import TIANSHOU_LIKE, Side, build
from updates.start import synthetic_start

TARGETS, DAMPINGS, SOLVE_ROUNDS, MOST_PRODUCTS = (0.9, 0.95), (0.1, 0.01), 5, 1024


def compare(case: Case) -> dict[str, Any]:
    """Return times, ratios and qualities of all sides, and what a solve of given accuracy takes."""
    start = case.start()
    judge = Judge(start)
    sides = {name: build(name, start) for name in case.sides}
    times = time_updates(sides, case.rounds)
    found: dict[str, Any] = {}
    for name, side in sides.items():
        policy, critic = side.networks()
        found[name] = {key: values[name] for key, values in times.items()}
        found[name] |= {"products": side.products, "optimality": round(judge.step_optimality(policy), 4)}
        # Without held-out data the rewards are random numbers, and there is nothing to fit.
        if start.held_out is not None:
            errors = judge.critic_errors(critic)
            found[name] |= dict(zip(("critic_error", "critic_error_held_out"), errors, strict=True))
    accuracy = [_solves(judge, damping, target) for damping, target in product(DAMPINGS, TARGETS)]
    return {"case": case.name, "rounds": case.rounds, "sides": found, "accuracy": accuracy}


def grow(samples: int, width: int, rounds: int, device: str = "cpu") -> dict[str, Any]:
    """Return the times of updates of so many samples, with networks of two hidden layers of such a width."""
    start = synthetic_start(samples, (width, width), device)
    sides = {name: build(name, start) for name in TIANSHOU_LIKE}
    times = time_updates(sides, rounds)
    return {"samples": samples, "width": width, **times, "products": {name: s.products for name, s in sides.items()}}


def peak_memory(name: str, samples: int) -> float:
    """Return the megabytes by which an update of so many samples exceeds what is resident before it (Linux)."""
    for size in (64, samples):  # any first update compiles and loads something
        side = build(name, synthetic_start(size, (64, 64)))
        side.reset()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is resident now
        before = _kilobytes("VmRSS")
        side.update()
    return (_kilobytes("VmHWM") - before) / 1024


def peak_memory_of_fresh_process(name: str, samples: int) -> float:
    """Return the same, undisturbed by what this process did before."""
    fresh = {"mp_context": get_context("spawn"), "initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(1, **fresh) as pool:
        return round(pool.submit(peak_memory, name, samples).result(), 1)


def _kilobytes(field: str) -> int:
    """Return a field of this process's status."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"/proc/self/status must have {field}; this benchmark needs Linux")
    return int(match.group(1))


def _solves(judge: Judge, damping: float, target: float) -> dict[str, Any]:
    """Return products and times of a plain solve to an optimality, and of a preconditioned one."""
    products = {name: _fewest(judge, damping, target, name == "K-FAC") for name in ("plain", "K-FAC")}
    # The time includes building the preconditioner.
    solves = {name: partial(judge.direction, damping, count, name == "K-FAC") for name, count in products.items()}
    times = take_turns({name: partial(_seconds, solve) for name, solve in solves.items()}, SOLVE_ROUNDS)
    speed_up = times["speed_up"]["K-FAC"]
    return {"damping": damping, "target": target, "products": products, **times, "speed_up": speed_up}


def _fewest(judge: Judge, damping: float, target: float, preconditioned: bool) -> int:
    """Return the fewest products that reach the target, found by doubling and bisection."""

    def reaches(products: int) -> bool:
        return judge.optimality(judge.direction(damping, products, preconditioned), damping) >= target

    most = 1
    while not reaches(most):
        most *= 2
        if most > MOST_PRODUCTS:
            raise ValueError(f"optimality {target} must be reached within {MOST_PRODUCTS} products, it was not")
    fewer = range(most // 2 + 1, most)
    return fewer.start + bisect_left(fewer, True, key=reaches)


def take_turns(actions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, dict[str, float]]:
    """Return medians over rounds of the seconds that each action returns, after a round that does not count.

    :return: in milliseconds, and the medians of the quotients within a round: how many times as fast as the first.
    """
    turns = np.array([[action() for action in actions.values()] for _ in range(rounds + 1)])[1:]
    medians = {"milliseconds": np.median(1e3 * turns, axis=0), "speed_up": np.median(turns[:, :1] / turns, axis=0)}
    return {key: dict(zip(actions, values.round(3).tolist(), strict=True)) for key, values in medians.items()}


def time_updates(sides: Mapping[str, Side], rounds: int) -> dict[str, dict[str, float]]:
    """Time the updates of the sides, each from the start."""
    return take_turns({name: partial(_seconds_of_update, side) for name, side in sides.items()}, rounds)


def _seconds_of_update(side: Side) -> float:
    side.reset()
    # Torch checks the arguments of distributions or not, as it does where a library is used alone.
    before = Distribution._validate_args
    Distribution.set_default_validate_args(side.validates)
    try:
        return _seconds(side.update)
    finally:
        Distribution.set_default_validate_args(before)


def _seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes, with what it leaves to do on an accelerator."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - start
