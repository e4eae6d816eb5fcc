"""Learning-rate schedules for the critic's optimiser."""

from __future__ import annotations

import math

import torch
from tianshou.algorithm.optim import LRSchedulerFactory
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler

from trpo_ts.schedules import Schedule
from trpo_ts.validation.parameter_values import check_integer, check_real

__all__ = ["LinearDecay", "ScheduledRate"]


class LinearDecay(LRSchedulerFactory):
    """A learning rate that falls linearly over the planned updates and then stays, never below zero.

    It takes the parameters of Tianshou's ``LRSchedulerFactoryLinear``, whose rate then falls below zero.

    :param max_epochs: of the training, >= 1.
    :param epoch_num_steps: environment steps of an epoch, >= 1.
    :param collection_step_num_env_steps: environment steps per update, >= 1; where updates take whole episodes,
        their expected number.
    :param final_factor: the part of the first rate that is left at the end, in [0, 1].
    :raises ValueError: for a value outside its range.
    """

    def __init__(
        self,
        max_epochs: int,
        epoch_num_steps: int,
        collection_step_num_env_steps: int,
        final_factor: float = 0.0,
    ) -> None:
        epochs = check_integer("max_epochs", max_epochs, 1)
        epoch_steps = check_integer("epoch_num_steps", epoch_num_steps, 1)
        update_steps = check_integer("collection_step_num_env_steps", collection_step_num_env_steps, 1)
        self.updates = epochs * math.ceil(epoch_steps / update_steps)
        self.final_factor = check_real("final_factor", final_factor, 0.0, 1.0)

    def create_scheduler(self, optim: torch.optim.Optimizer) -> LRScheduler:
        """Return the schedule for an optimiser; it advances once per update."""
        return LinearLR(optim, start_factor=1.0, end_factor=self.final_factor, total_iters=self.updates)


class ScheduledRate(LRSchedulerFactory):
    """A learning rate that is a function of the progress of the training.

    :param rate: the rate by the share of the updates that are done, in [0, 1). It must be 0 or more; one that begins
        at 0 is refused, since the optimiser's own rate is its value at 0.
    :param updates: planned updates, >= 1; after them the rate stays what it is at 1.
    :raises ValueError: for a value outside its range.
    """

    def __init__(self, rate: Schedule, updates: int) -> None:
        self.rate = rate
        self.updates = check_integer("updates", updates, 1)
        self._first = check_real("lr (by its schedule, at progress 0)", rate(0.0), 0.0, low_open=True)

    def create_scheduler(self, optim: torch.optim.Optimizer) -> LRScheduler:
        """Return the schedule for an optimiser, whose rate is the first one; it advances once per update."""
        return LambdaLR(optim, self._factor)

    def _factor(self, updates: int) -> float:
        progress = min(1.0, updates / self.updates)
        return check_real(f"lr (by its schedule, at progress {progress:g})", self.rate(progress), 0.0) / self._first
