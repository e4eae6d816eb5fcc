"""The summary and the report of a run, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trpo_ts.cli.run_files import RunConfig, RunFiles
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, write_json
from trpo_ts.diagnostics.text_files import atomic_write_text
from trpo_ts.envs import POINT_MASS_BEST_RETURN
from trpo_ts.reports import RecordedRun
from trpo_ts.reports.run_page import RunPage

__all__ = ["recorded_run", "runs_page", "summarise", "write_run_report"]

_LAST_UPDATES = 5


def summarise(
    files: RunFiles,
    config: RunConfig,
    updates: Sequence[UpdateRecord],
    tests: Sequence[EvaluationRecord],
    *,
    wall_seconds: float,
    test_seconds: float,
) -> dict[str, Any]:
    """Write ``summary.json`` and return what it holds.

    :param wall_seconds: of the whole training, all its sessions together.
    :param test_seconds: what tests took of them.
    """
    returns = [r for update in updates[-_LAST_UPDATES:] for r in update.episode_returns]
    env_steps = updates[-1].env_steps if updates else 0
    training_seconds = wall_seconds - test_seconds
    summary = {
        "task": config.job.task,
        "seed": config.job.seed,
        "env_steps": env_steps,
        "wall_seconds": round(wall_seconds, 2),
        "steps_per_second": round(env_steps / training_seconds, 1) if training_seconds > 0 else None,
        "best_test_return": max((test.return_mean for test in tests), default=None),
        "last_test_return": tests[-1].return_mean if tests else None,
        "final_return_mean": float(np.mean(returns)) if returns else None,
        "max_kl_seen": max((update.kl for update in updates if update.kl is not None), default=None),
        "report": files.report.name,
    }
    write_json(files.summary, summary)
    return summary


def write_run_report(
    files: RunFiles,
    config: RunConfig,
    updates: Sequence[UpdateRecord],
    tests: Sequence[EvaluationRecord],
    summary: Mapping[str, Any],
) -> None:
    """Write ``report.html`` of one run."""
    run = recorded_run(files, config, updates, tests, summary)
    atomic_write_text(files.report, runs_page([run]).html())


def recorded_run(
    files: RunFiles,
    config: RunConfig,
    updates: Sequence[UpdateRecord],
    tests: Sequence[EvaluationRecord],
    summary: Mapping[str, Any],
) -> RecordedRun:
    """Return a run as reports see it."""
    settings = config.as_dict()
    return RecordedRun(
        updates,
        tests,
        name=files.folder.resolve().name,
        settings=settings,
        versions=files.read_versions(),
        summary={name: value for name, value in summary.items() if name not in (*settings, "report")},
        planned_steps=config.job.settings.whole_steps,
        reference=("best controller", POINT_MASS_BEST_RETURN) if config.job.task == "PointMass1D-v0" else None,
    )


def runs_page(runs: Sequence[RecordedRun]) -> RunPage:
    """Return the report of one run or several."""
    tasks = ", ".join(dict.fromkeys(str(run.settings["task"]) for run in runs))
    if len(runs) > 1:
        return RunPage(runs, f"TRPO on {tasks}", f"{len(runs)} runs of trpo_ts.TRPO on shared axes.", {})
    (run,) = runs
    words = f"{len(run.updates):,} updates of trpo_ts.TRPO, seed {run.settings['seed']}, "
    return RunPage(runs, f"TRPO on {tasks}", f"{words}preset {run.settings['preset']}.", {})
