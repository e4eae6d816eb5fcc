"""The records of a run, written to ``metrics.jsonl`` as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tianshou.utils.logger.logger_base import BaseLogger

from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord
from trpo_ts.loggers import JsonLinesLogger

__all__ = ["MetricsRecorder"]


class MetricsRecorder(JsonLinesLogger):
    """A logger of JSON lines that also tells a listener of each record, and counts the seconds of the tests.

    :param path: the file.
    :param listener: is called with each record.
    :param forward_to: a further logger; None for none.
    """

    def __init__(
        self,
        path: Path,
        listener: Callable[[UpdateRecord | EvaluationRecord], None],
        forward_to: BaseLogger | None = None,
    ) -> None:
        super().__init__(path, forward_to)
        self._listener = listener
        self.test_seconds = 0.0
        """What tests took so far; Tianshou's collector does not count it."""

    def get_state(self) -> dict[str, Any]:
        """Return all records, and the seconds of the tests."""
        return {**super().get_state(), "test_seconds": self.test_seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        super().set_state(state)
        self.test_seconds = float(state["test_seconds"])

    def append(self, record: UpdateRecord | EvaluationRecord) -> None:
        """Append a record to the file, and tell of it."""
        super().append(record)
        self._listener(record)
