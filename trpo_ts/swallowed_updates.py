"""A warning for loggers that leave out the updates of a training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils import TensorboardLogger
from tianshou.utils.logger.logger_base import BaseLogger, LazyLogger

__all__ = ["warn_of_swallowed_updates"]

_TIANSHOUS_INTERVAL = 1000


def warn_of_swallowed_updates(params: OnPolicyTrainerParams) -> None:
    """Warn where a logger leaves out all updates, or by an interval that nobody has chosen 999 in a thousand.

    Tianshou's loggers write an update when ``update_interval`` updates have passed since the last that was written,
    and the interval is 1000 where none is given. Loggers that do not read it, and other intervals that leave updates
    in the log, are no reason to warn.
    """
    updates = _planned_updates(params)
    if updates == 0:
        return
    for logger in _those_who_write(params.logger):
        interval = logger.update_interval
        written = None if updates is None else (updates + 1) // interval  # it counts from -1 on
        if interval != _TIANSHOUS_INTERVAL and written != 0:
            continue
        left_out, all_of = (interval - 1, interval) if updates is None else (updates - (written or 0), updates)
        fix = "trpo_ts.training.tensorboard_logger(folder), or " if isinstance(logger, TensorboardLogger) else ""
        name = type(logger).__name__
        warnings.warn(
            f"{name} has update_interval={interval}, so that {left_out:,} of {all_of:,} updates "
            f"will not be in the log: take {fix}{name}(..., training_interval=1, update_interval=1)",
            stacklevel=3,
        )


def _those_who_write(logger: BaseLogger | None) -> Iterator[BaseLogger]:
    """Yield the loggers, within others too, that leave out updates by Tianshou's rule."""
    if logger is None or isinstance(logger, LazyLogger):
        return
    for inner in (getattr(logger, "_forward_to", None), *getattr(logger, "loggers", ())):
        yield from _those_who_write(inner)
    if type(logger).log_update_data is BaseLogger.log_update_data:
        yield logger


def _planned_updates(params: OnPolicyTrainerParams) -> int | None:
    """Return how many updates a whole training has; None where whole episodes are collected, of any length."""
    asked = params.collection_step_num_env_steps
    if asked is None:
        return None
    envs = len(params.training_collector.env)
    collected = math.ceil(asked / envs) * envs
    return params.max_epochs * math.ceil(params.epoch_num_steps / collected)
