"""TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped, unused-ignore]
    EventAccumulator,
)
from tianshou.utils import TensorboardLogger
from tianshou.utils.logger.logger_base import TRestoredData
from torch.utils.tensorboard import SummaryWriter

from trpo_ts.loggers.env_step_logger import EnvStepLogger
from trpo_ts.loggers.event_files import cut_event_files

__all__ = ["EnvStepTensorboardLogger", "tensorboard_logger"]


def tensorboard_logger(folder: str | os.PathLike[str]) -> EnvStepTensorboardLogger:
    """Return a TensorBoard logger that writes every update and every rollout, and saves after every epoch.

    With Tianshou's intervals the statistics of one update in a thousand are written, which for a million steps in
    rollouts of 1,024 is none, and ``save_checkpoint_fn`` is never called.

    Where a run resumes (:class:`trpo_ts.checkpoints.ResumableTrainer`), what was written after its checkpoint is cut
    off, so that no update is in the curves twice.

    :param folder: where the event files are written.
    """
    return EnvStepTensorboardLogger(SummaryWriter(os.fspath(folder)))


class EnvStepTensorboardLogger(EnvStepLogger, TensorboardLogger):  # type: ignore[misc, unused-ignore]
    """Tianshou's TensorBoard logger, whose curves are all over environment steps.

    The tags are Tianshou's (``update/kl/mean``, ``training/returns_stat/mean``, ``test/...``, ``info/...``) without
    those that say nothing: spreads of single numbers, smoothed copies, and steps as curves over themselves.

    :param writer: writes the event files.
    :param save_interval: epochs between two calls of ``save_checkpoint_fn``; None for no calls.
    """

    def __init__(self, writer: SummaryWriter, save_interval: int | None = 1) -> None:
        super().__init__(writer, save_interval=save_interval)
        self.begin_counting()

    def write_scalars(self, scope: str, env_step: int, values: dict[str, Any]) -> None:
        """Write numbers; of an array its histogram, and a figure of Matplotlib's as an image."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self.writer.add_histogram(name, value, env_step)
            elif hasattr(value, "savefig"):
                self.writer.add_figure(name, value, env_step)
            else:
                self.writer.add_scalar(name, value, env_step)
        self.writer.flush()

    def save_data(
        self,
        epoch: int,
        env_step: int,
        update_step: int,
        save_checkpoint_fn: Callable[[int, int, int], str] | None = None,
    ) -> None:
        """Call ``save_checkpoint_fn``, and write down when."""
        if self.save_if_due(epoch, env_step, update_step, save_checkpoint_fn):
            self.write("save/env_step", env_step, {"epoch": epoch, "gradient_step": update_step})

    def restore_data(self) -> tuple[int, int, int]:
        """Return epoch, environment steps and updates of the last save, and cut off what was written after it.

        Tianshou's trainer calls it with ``resume_from_log``.
        """
        events = EventAccumulator(self.writer.log_dir, size_guidance={"scalars": 0}).Reload()
        if "save/epoch" not in events.Tags()["scalars"]:
            return 0, 0, 0
        saved = {name: events.Scalars(f"save/{name}")[-1] for name in ("epoch", "gradient_step")}
        env_step, epoch = saved["epoch"].step, int(saved["epoch"].value)
        update_step = int(saved["gradient_step"].value)
        self.cut_after(epoch=epoch, env_step=env_step, update_step=update_step)
        tests = [tag for tag in events.Tags()["scalars"] if tag.startswith("test/")]
        last = max((event.step for tag in tests for event in events.Scalars(tag) if event.step <= env_step), default=-1)
        self.continue_after(env_step, last)
        return epoch, env_step, update_step

    @staticmethod
    def restore_logged_data(log_path: str) -> TRestoredData:
        """Return what is in the event files as Tianshou's evaluation reads it: also what was not worth a curve.

        These are the environment steps of collects, and the spreads of single returns and lengths.
        """
        data: dict[str, Any] = TensorboardLogger.restore_logged_data(log_path)
        events = EventAccumulator(log_path, size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            scope, *name, kind = tag.split("/")
            if scope not in ("training", "test") or kind != "mean" or len(name) != 1:
                continue
            mean = {event.step: event.value for event in events.Scalars(tag)}
            spreads = {"mean": mean, "std": dict.fromkeys(mean, 0.0), "max": dict(mean), "min": dict(mean)}
            for spread in ("std", "max", "min"):
                if f"{scope}/{name[0]}/{spread}" in events.Tags()["scalars"]:
                    written = events.Scalars(f"{scope}/{name[0]}/{spread}")
                    spreads[spread] |= {event.step: event.value for event in written if event.step in mean}
            data[scope][name[0]] = {key: np.array(list(values.values())) for key, values in spreads.items()}
            if name[0] == "returns_stat":
                data[scope]["env_step"] = np.array(list(mean), dtype=np.float64)  # as other curves; it ends up in JSON
        return data

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Cut the event files, and continue in a new one."""
        self.writer.close()  # it opens another file when it is written to again
        cut_event_files(self.writer.log_dir, env_step)
        self.last_save_step = epoch
        self.continue_after(env_step, env_step)
