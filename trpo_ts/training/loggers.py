"""Loggers that leave nothing out."""

from __future__ import annotations

import os

from tianshou.utils import TensorboardLogger
from torch.utils.tensorboard import SummaryWriter

from trpo_ts.training.event_files import cut_event_files

__all__ = ["tensorboard_logger"]


def tensorboard_logger(folder: str | os.PathLike[str]) -> TensorboardLogger:
    """Return a TensorBoard logger that writes every update and every rollout, and saves after every epoch.

    With Tianshou's intervals the statistics of one update in a thousand are written, which for a million steps in
    rollouts of 1,024 is none, and ``save_checkpoint_fn`` is never called.

    Where a run resumes (:class:`trpo_ts.checkpoints.ResumableTrainer`), what was written after its checkpoint is cut
    off, so that no update is in the curves twice.

    :param folder: where the event files are written.
    """
    return _ResumableTensorboardLogger(
        SummaryWriter(os.fspath(folder)), training_interval=1, test_interval=1, update_interval=1, save_interval=1
    )


class _ResumableTensorboardLogger(TensorboardLogger):
    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Cut the event files, and go on in a new one."""
        self.writer.close()  # it opens another file when it is written to again
        cut_event_files(self.writer.log_dir, epoch=epoch, env_step=env_step, update_step=update_step)
        self.last_log_training_step, self.last_log_test_step = env_step, env_step
        self.last_log_update_step, self.last_log_info_step, self.last_save_step = update_step, epoch, epoch
