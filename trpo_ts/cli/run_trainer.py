"""The trainer of a run: as many steps as asked for, checkpoints by the clock, an end when a signal asks for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from tianshou.data import CollectStats, EpochStats

from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.cli.metrics_recorder import MetricsRecorder
from trpo_ts.cli.stop_signals import StopSignals
from trpo_ts.cli.usage import UsageError
from trpo_ts.training import Job

__all__ = ["RunTrainer", "StoppedError"]


class StoppedError(Exception):
    """The run was asked to stop, and is saved."""


class RunTrainer(ResumableTrainer):
    """Trains a job for its steps, rounded up to whole updates, and tests after every ``test_every`` of them.

    When a checkpoint is written changes nothing in the run.

    :param job: the job; its trainer parameters are used up by this trainer.
    :param folder: the run's own.
    :param recorder: the logger, with the records of the run.
    :param signals: ask for the end.
    :param save_every: seconds between two checkpoints within an epoch, whose end always has one.
    :param on_start: is called with the steps that are done already and with what there is to say of them.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        recorder: MetricsRecorder,
        signals: StopSignals,
        save_every: float,
        on_start: Callable[[int, str], None],
    ) -> None:
        job.params.logger = recorder
        super().__init__(job.algorithm, job.params, folder, numbered=False)
        self._recorder, self._signals, self._on_start = recorder, signals, on_start
        self._all_steps = job.config.settings.whole_steps
        self._whole_epoch = job.params.epoch_num_steps
        self._save_every, self._saved_at = save_every, time.monotonic()
        self._said = ""
        self._stop, self._is_due = False, False
        self.saved_steps = 0
        """Environment steps up to the last checkpoint."""

    def reset(self, reset_collectors: bool = True, reset_collector_buffers: bool = False) -> None:
        """Begin or resume, and plan the epochs that are left."""
        super().reset(reset_collectors, reset_collector_buffers)
        self.saved_steps = self._env_step
        self._on_start(self._env_step, self._said)
        steps_left = self._all_steps - self._epoch_start()
        self.params.max_epochs = self._epoch + max(0, math.ceil(steps_left / self._whole_epoch))

    def execute_epoch(self) -> EpochStats:
        """Perform an epoch; the last one has the steps that are left."""
        self.params.epoch_num_steps = min(self._whole_epoch, self._all_steps - self._epoch_start())
        return super().execute_epoch()

    def _epoch_start(self) -> int:
        return self._env_step - self._steps_to_skip

    def _training_step(self) -> ResumableTrainer._TrainingStepResult:
        self._agree()
        if self._stop and self._env_step == self._epoch_began_at:  # the epoch's start is saved
            raise StoppedError
        return super()._training_step()

    def _test_step(
        self, force_update_best: bool = False, log_msg_prefix: str | None = None
    ) -> tuple[CollectStats, bool]:
        start = time.perf_counter()
        result = super()._test_step(force_update_best, log_msg_prefix)
        self._recorder.test_seconds += time.perf_counter() - start
        return result

    def _agree(self) -> None:
        """Note whether any rank was asked to stop, and whether it is time to save by the clock of rank 0."""
        due = time.monotonic() - self._saved_at >= self._save_every
        gathered = self._ranks.gather([self._signals.stop, due])
        self._stop = any(stop for stop, _ in gathered)
        self._is_due = self._stop or bool(gathered[0][1])

    def _is_save_due(self, updates: int) -> bool:
        return self._is_due

    def _save(self, steps_in_epoch: int | None = None) -> None:
        super()._save(steps_in_epoch)
        self._saved_at, self.saved_steps = time.monotonic(), self._env_step
        if steps_in_epoch is None:  # at an epoch's end no step has asked
            self._agree()
        if self._stop and self._env_step < self._all_steps:
            raise StoppedError

    def _resume(self) -> None:
        try:
            super()._resume()
        except ValueError as error:  # no checkpoint that can be loaded
            raise UsageError(" ".join(str(error).split())) from error

    def _say(self, text: str) -> None:
        super()._say(text)
        self._said = text
