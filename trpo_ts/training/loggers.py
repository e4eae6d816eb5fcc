"""Loggers that leave nothing out."""

from __future__ import annotations

import os

from tianshou.utils import TensorboardLogger
from torch.utils.tensorboard import SummaryWriter

__all__ = ["tensorboard_logger"]


def tensorboard_logger(folder: str | os.PathLike[str]) -> TensorboardLogger:
    """Return a TensorBoard logger that writes every update and every rollout, and saves after every epoch.

    With Tianshou's intervals the statistics of one update in a thousand are written, which for a million steps in
    rollouts of 1,024 is none, and ``save_checkpoint_fn`` is never called.

    :param folder: where the event files are written.
    """
    return TensorboardLogger(
        SummaryWriter(os.fspath(folder)), training_interval=1, test_interval=1, update_interval=1, save_interval=1
    )
