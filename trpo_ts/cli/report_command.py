"""``trpo-ts report``: the report of a run, from its metrics."""

from __future__ import annotations

from trpo_ts.cli.commands import Report
from trpo_ts.cli.run_files import RunFiles
from trpo_ts.cli.run_report import write_run_report
from trpo_ts.cli.usage import UsageError
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, load_records

__all__ = ["report"]


def report(command: Report) -> int:
    """Write ``report.html``, print where it is, and return the exit code."""
    files = RunFiles(command.run)
    config = files.read()
    try:
        records = load_records(files.metrics, unfinished=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{files.metrics} cannot be read: {error}") from error
    updates = [record for record in records if isinstance(record, UpdateRecord)]
    tests = [record for record in records if isinstance(record, EvaluationRecord)]
    write_run_report(files, config, updates, tests, files.read_summary())
    print(files.report)
    return 0
