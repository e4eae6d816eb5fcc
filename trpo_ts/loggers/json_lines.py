"""JSON lines."""

from __future__ import annotations

import itertools
import os
import warnings
from operator import attrgetter
from pathlib import Path
from typing import Any

from tianshou.utils.logger.logger_base import BaseLogger

from trpo_ts.diagnostics import EvaluationRecord, TrainingRecorder, UpdateRecord, save_records
from trpo_ts.diagnostics.storage import record_line

__all__ = ["JsonLinesLogger"]


class JsonLinesLogger(TrainingRecorder):
    """A recorder that also appends a line for each update and each test to a file, as they come.

    :func:`trpo_ts.diagnostics.load_records` reads the file, which is the ``metrics.jsonl`` of the command line. It
    holds no update twice: where a :class:`trpo_ts.checkpoints.ResumableTrainer` resumes, it is written anew from the
    records of the checkpoint. Where a run begins and the file holds another's, that one is renamed, and a warning
    says so.

    :param path: the file; missing folders are made.
    :param forward_to: a further logger that receives every call.
    """

    def __init__(self, path: str | os.PathLike[str], forward_to: BaseLogger | None = None) -> None:
        super().__init__(forward_to)
        self.path = Path(path)
        self._has_begun = False

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from the records of a checkpoint, of which the file holds no more after :meth:`cut_after`."""
        super().set_state(state)
        self._has_begun = True

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        """Complete the record of a training step, and append it."""
        super().log_training_data(log_data, step)
        self.append(self.updates[-1])

    def log_test_data(self, log_data: dict[str, Any], step: int) -> None:
        """Record the returns of a test, and append them."""
        count = len(self.tests)
        super().log_test_data(log_data, step)
        for record in self.tests[count:]:
            self.append(record)

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Write the file anew from the records, and cut the further logger's files."""
        super().cut_after(epoch=epoch, env_step=env_step, update_step=update_step)
        if not self._has_begun:  # the checkpoint held no records: the file is nobody's that could be continued
            self._begin()
            return
        records: list[UpdateRecord | EvaluationRecord] = [*self.updates, *self.tests]
        # The sort is stable: a test comes after the update that it tests.
        save_records(self.path, sorted(records, key=attrgetter("env_steps")))

    def append(self, record: UpdateRecord | EvaluationRecord) -> None:
        """Append a record to the file."""
        if not self._has_begun:
            self._begin()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(record_line(record))

    def _begin(self) -> None:
        """Begin a file, and put aside one that is there."""
        self._has_begun = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        candidates = (self.path.with_suffix(f".{n}{self.path.suffix}") for n in itertools.count(1))
        aside = next(path for path in candidates if not path.exists())
        os.replace(self.path, aside)
        warnings.warn(f"{self.path} held the records of another run, which are now in {aside}", stacklevel=5)
