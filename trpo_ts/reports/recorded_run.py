"""A run as a report sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from trpo_ts.diagnostics.records import EvaluationRecord, UpdateRecord
from trpo_ts.reports.verdict import Verdict, judge

__all__ = ["RecordedRun"]

_LAST_UPDATES = 5


@dataclass(frozen=True)
class RecordedRun:
    """The records of one training, and what there is to know of it beside them."""

    updates: Sequence[UpdateRecord]
    """Records of the training steps, in their order."""
    tests: Sequence[EvaluationRecord] = ()
    """Records of the tests, in their order."""
    name: str = "run"
    """What to call it among others."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Task, seed and parameters by name; ``max_kl`` among them bounds the KL divergence of the updates whose records do
    not say it, unless it is the text of a schedule."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Versions of the software by name."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Further results by name, shown in the table of the run."""
    planned_steps: int | None = None
    """Environment steps to train for; None where nobody said."""
    reference: tuple[str, float] | None = None
    """Name and value of a return to compare with, such as the optimum."""

    @property
    def _max_kl_of_settings(self) -> float | None:
        value = self.settings.get("max_kl")
        return None if isinstance(value, str) else value  # a text describes a schedule

    @cached_property
    def kl_bounds(self) -> Sequence[float | None]:
        """Bound on the KL divergence of each update in nats, as recorded, or else as the settings have it."""
        return [self._max_kl_of_settings if update.max_kl is None else update.max_kl for update in self.updates]

    @property
    def max_kl(self) -> float | None:
        """Bound on the KL divergence in nats, if it is the same in all updates."""
        bounds = set(self.kl_bounds) or {self._max_kl_of_settings}
        return bounds.pop() if len(bounds) == 1 else None

    @property
    def env_steps(self) -> int:
        """Environment steps collected."""
        return self.updates[-1].env_steps if self.updates else 0

    @property
    def complete(self) -> bool:
        """Whether the planned steps are done."""
        return self.planned_steps is None or self.env_steps >= self.planned_steps

    @property
    def final_return(self) -> float | None:
        """Mean return of the episodes that ended in the last five updates."""
        returns = [r for update in self.updates[-_LAST_UPDATES:] for r in update.episode_returns]
        return float(np.mean(returns)) if returns else None

    @property
    def best_test(self) -> EvaluationRecord | None:
        """The test with the largest mean return."""
        return max(self.tests, key=lambda test: test.return_mean, default=None)

    @property
    def best_test_return(self) -> float | None:
        """Mean return of the best test."""
        return None if self.best_test is None else self.best_test.return_mean

    @property
    def largest_kl(self) -> float | None:
        """Largest KL divergence of an update, in nats."""
        return max((update.kl for update in self.updates if update.kl is not None), default=None)

    @property
    def seconds(self) -> float | None:
        """Seconds spent on collecting and updating; None where they were not recorded."""
        times = [time for update in self.updates for time in (update.collect_time, update.train_time)]
        known = [time for time in times if time is not None]
        return sum(known) if known and len(known) == len(times) else None

    @property
    def steps_per_second(self) -> float | None:
        """Environment steps per second, tests left out: those of the summary, else of collecting and updating alone."""
        if self.summary.get("steps_per_second") is not None:
            return float(self.summary["steps_per_second"])
        return self.env_steps / self.seconds if self.seconds else None

    @cached_property
    def verdict(self) -> Verdict:
        """What the records say about the training."""
        return judge(self.updates, self._max_kl_of_settings)
