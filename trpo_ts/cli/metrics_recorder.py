"""The records of a run, written to ``metrics.jsonl`` as they come."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from tianshou.utils.logger.logger_base import BaseLogger

from trpo_ts.diagnostics import EvaluationRecord, TrainingRecorder, UpdateRecord, save_records
from trpo_ts.diagnostics.storage import record_line

__all__ = ["MetricsRecorder"]


class MetricsRecorder(TrainingRecorder):
    """A recorder that also appends each record to a file, and tells a listener.

    The file never holds an update twice: where a run resumes, it is written anew from the records of the checkpoint.

    :param path: the file.
    :param listener: is called with each record.
    :param forward_to: a further logger.
    """

    def __init__(
        self, path: Path, listener: Callable[[UpdateRecord | EvaluationRecord], None], forward_to: BaseLogger
    ) -> None:
        super().__init__(forward_to)
        self._path, self._listener = path, listener
        self.test_seconds = 0.0
        """What tests took so far; Tianshou's collector does not count it."""

    def get_state(self) -> dict[str, Any]:
        """Return all records, and the seconds of the tests."""
        return {**super().get_state(), "test_seconds": self.test_seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        super().set_state(state)
        self.test_seconds = float(state["test_seconds"])

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        """Complete the record of a training step, and append it."""
        super().log_training_data(log_data, step)
        self._append(self.updates[-1])

    def log_test_data(self, log_data: dict[str, Any], step: int) -> None:
        """Record the returns of a test, and append them."""
        count = len(self.tests)
        super().log_test_data(log_data, step)
        for record in self.tests[count:]:
            self._append(record)

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Write the file anew from the records, which are those of the checkpoint, and cut the other logs."""
        super().cut_after(epoch=epoch, env_step=env_step, update_step=update_step)
        records: list[UpdateRecord | EvaluationRecord] = [*self.updates, *self.tests]
        # The sort is stable: a test comes after the update that it tests.
        save_records(self._path, sorted(records, key=attrgetter("env_steps")))

    def _append(self, record: UpdateRecord | EvaluationRecord) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(record_line(record))
        self._listener(record)
