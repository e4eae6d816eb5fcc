"""Learning-rate schedules for the critic's optimiser."""

from __future__ import annotations

import math

import torch
from tianshou.algorithm.optim import LRSchedulerFactory
from torch.optim.lr_scheduler import LinearLR, LRScheduler

from trpo_ts.validation.parameter_values import check_integer, check_real

__all__ = ["LinearDecay"]


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
