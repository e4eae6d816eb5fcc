"""The summary and the report of a run, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trpo_ts.cli.run_files import RunConfig, RunFiles
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, learning_figure, write_json, write_report
from trpo_ts.envs import POINT_MASS_BEST_RETURN

__all__ = ["summarise", "write_run_report"]

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
    """Write ``report.html``: the learning figure, the summary, the settings."""
    settings = config.job.settings
    point_mass = config.job.task == "PointMass1D-v0"
    figures = {}
    if updates or tests:
        figure = learning_figure(
            updates,
            None if isinstance(settings.max_kl, str) else settings.max_kl,
            POINT_MASS_BEST_RETURN if point_mass else None,
            "best controller" if point_mass else "",
            tests=tests,
        )
        caption = "Each point is one update. The dashed KL is the bound, which no update exceeds."
        figures["Learning"] = (figure, caption)
    shown = {name: _shown(value) for name, value in config.as_dict().items() if name not in summary}
    write_report(
        files.report,
        figures,
        {**summary, **shown},
        title=f"TRPO on {config.job.task}",
        description=f"{len(updates):,} updates of trpo_ts.TRPO, seed {config.job.seed}, preset {config.job.preset}.",
    )


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
