"""Trainings that never happened, of which the records are known: healthy ones, and ones with a trouble."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trpo_ts.cli.run_files import RunConfig, RunFiles
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, save_records
from trpo_ts.reports import RecordedRun
from trpo_ts.training.job_config import resolve

__all__ = ["MAX_KL", "evaluations_of", "recorded", "updates_of", "write_run"]

MAX_KL = 0.01
_STEPS = 1024


def updates_of(count: int = 40, *, seed: int = 0, **changes: Callable[[int], Any]) -> list[UpdateRecord]:
    """Return the updates of a healthy training with noise, in which some statistics are others.

    :param changes: by the name of a statistic, or ``level`` for the mean return, its value in update ``n`` from 0.
    """
    generator = np.random.default_rng(seed)
    healthy: dict[str, Callable[[int], Any]] = {
        "level": lambda n: 100.0 * (1.0 - np.exp(-n / 10.0)),
        "kl": lambda n: 0.8 * MAX_KL,
        "step_fraction": lambda n: 1.0,
        "backtracks": lambda n: 0.0,
        "accepted": lambda n: 1.0,
        "outcome": lambda n: 0.0,
        "surrogate_improvement": lambda n: 0.04,
        "expected_improvement": lambda n: 0.05,
        "vf_loss": lambda n: 50.0,
        "entropy": lambda n: 2.0 - 0.01 * n,
        "policy_std": lambda n: 0.6 * 0.99**n,
        "explained_variance": lambda n: 0.9 - 1.0 / (1.0 + n),
        "cg_iterations": lambda n: 1.0,
        "cg_residual": lambda n: 0.3,
        "train_time": lambda n: 0.02,
        "collect_time": lambda n: 0.08,
    }
    updates = []
    for n in range(count):
        values = {name: value(n) for name, value in {**healthy, **changes}.items()}
        returns = tuple((values.pop("level") + 5.0 * generator.standard_normal(8)).tolist())
        updates.append(UpdateRecord(n + 1, (n + 1) * _STEPS, returns, **values))
    return updates


def evaluations_of(updates: list[UpdateRecord]) -> list[EvaluationRecord]:
    """Return a test after every tenth update."""
    return [EvaluationRecord(update.env_steps, update.episode_returns) for update in updates[9::10]]


def recorded(count: int = 40, *, seed: int = 0, name: str | None = None, **settings: Any) -> RecordedRun:
    """Return a healthy run with tests and settings."""
    updates = updates_of(count, seed=seed)
    return RecordedRun(
        updates,
        evaluations_of(updates),
        name=name or f"seed_{seed}",
        settings={"task": "Task-v0", "seed": seed, "max_kl": MAX_KL, **settings},
        versions={"trpo_ts": "1.2.3"},
    )


def write_run(folder: Path, *, seed: int = 0, updates: int = 12, **settings: Any) -> None:
    """Write the configuration and the metrics of a run that the command line could have made."""
    files = RunFiles(folder)
    files.write(RunConfig(resolve("CartPole-v1", seed=seed, **settings), 1))
    records = updates_of(updates, seed=seed)
    save_records(files.metrics, [*records, *evaluations_of(records)])
