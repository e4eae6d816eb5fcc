"""The counters of Tianshou's on-policy trainer."""

from __future__ import annotations

import numbers
import time
from typing import Any

from tianshou.trainer import OnPolicyTrainer
from tianshou.utils import MovAvg

from trpo_ts.validation.parameter_values import check_bool, check_integer, check_real

__all__ = ["best_of", "check_best", "check_progress", "progress_of", "set_best", "set_progress"]

_BEST = ("best_score", "best_reward", "best_reward_std", "best_epoch")
_COUNTERS = ("epoch", "env_step", "env_episode", "current_update_step", "policy_update_time", "stop_fn_flag")


def progress_of(trainer: OnPolicyTrainer, steps_in_epoch: int | None = None) -> dict[str, Any]:
    """Return the counters, the best score, the moving averages of the statistics, and the seconds since the start.

    :param steps_in_epoch: the environment steps of the running epoch, where a training step has begun and not
        collected yet; None between two epochs.
    """
    counters = _read(trainer, _COUNTERS)
    if steps_in_epoch is not None:  # Tianshou counts epochs and updates when they begin
        counters["epoch"] -= 1
        counters["current_update_step"] -= 1
    return {
        "counters": counters,
        "steps_in_epoch": steps_in_epoch or 0,
        "best": best_of(trainer),
        "averages": {name: list(average.cache) for name, average in trainer._stat.items()},
        "seconds": time.time() - trainer._start_time,
    }


def check_progress(progress: dict[str, Any]) -> None:
    """Check every number that :func:`progress_of` returned.

    :raises ValueError: for one that is missing or none of a trainer's, naming it.
    """
    counters = progress["counters"]
    for name in ("epoch", "env_step", "env_episode", "current_update_step"):
        check_integer(name, counters[name], 0)
    check_integer("steps_in_epoch", progress["steps_in_epoch"], 0)
    check_bool("stop_fn_flag", counters["stop_fn_flag"])
    for name in ("policy_update_time", "seconds"):
        check_real(name, {**counters, **progress}[name])
    check_best(progress["best"])
    if not all(isinstance(values, list) for values in progress["averages"].values()):
        raise ValueError("averages must be lists of numbers")


def set_progress(trainer: OnPolicyTrainer, progress: dict[str, Any]) -> None:
    """Set what :func:`progress_of` returned, but the steps of a running epoch, which the trainer does not count."""
    _write(trainer, _COUNTERS, progress["counters"])
    set_best(trainer, progress["best"])
    trainer._stat.clear()
    for name, values in progress["averages"].items():
        trainer._stat[name] = MovAvg()
        trainer._stat[name].cache = list(values)
    trainer._start_time = time.time() - progress["seconds"]


def best_of(trainer: OnPolicyTrainer) -> dict[str, Any]:
    """Return score, mean and deviation of the returns, and epoch of the best test so far."""
    return _read(trainer, _BEST)


def check_best(best: dict[str, Any]) -> None:
    """Check that :func:`best_of` may have returned this.

    :raises ValueError: otherwise, naming what is wrong.
    """
    check_integer("best_epoch", best["best_epoch"], 0)
    for name in ("best_score", "best_reward", "best_reward_std"):
        if not isinstance(best[name], numbers.Real):
            raise ValueError(f"{name} must be a number, got {type(best[name]).__name__}")


def set_best(trainer: OnPolicyTrainer, best: dict[str, Any]) -> None:
    """Set what :func:`best_of` returned."""
    _write(trainer, _BEST, best)


def _read(trainer: OnPolicyTrainer, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(trainer, f"_{name}") for name in names}


def _write(trainer: OnPolicyTrainer, names: tuple[str, ...], values: dict[str, Any]) -> None:
    for name in names:
        setattr(trainer, f"_{name}", values[name])
