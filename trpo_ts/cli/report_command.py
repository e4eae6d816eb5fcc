"""``trpo-ts report``: the report of one run or several, as a file or served during training."""

from __future__ import annotations

import sys
from pathlib import Path

from trpo_ts.cli.commands import Report
from trpo_ts.cli.live_report import serve
from trpo_ts.cli.run_files import RunFiles
from trpo_ts.cli.run_folders import find_runs, read_runs
from trpo_ts.cli.run_report import runs_page
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.diagnostics.text_files import atomic_write_text
from trpo_ts.reports import RecordedRun
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["report"]

_DEFAULT_PORT = 6007  # beside TensorBoard's
_LARGEST_PORT = 65_535


def report(command: Report) -> int:
    """Write the page and print where it is, or serve it until Ctrl-C; return the exit code."""
    if not command.runs:
        raise UsageError("report needs a run; type trpo-ts report and the folder that trpo-ts train named")
    if command.live and command.out is not None:
        raise UsageError("--live serves the page and writes no file; type either --live or --out")
    if not command.live and command.port is not None:
        raise UsageError(f"--port {command.port} is the port of --live; type --live too")
    if command.out is not None and command.out.is_dir():
        raise UsageError(f"--out must be a file, got the folder {command.out}; type {command.out / 'report.html'}")
    found = find_runs(command.runs)
    if command.live:
        serve(found, _port(command.port))
        return 0
    path = command.out or _default_path(command.runs)
    atomic_write_text(path, runs_page(_recorded(found)).html())
    print(path)
    return 0


def _port(port: int | None) -> int:
    with refused_values():
        number = check_integer("--port", _DEFAULT_PORT if port is None else port, 0)
    if number > _LARGEST_PORT:
        raise UsageError(f"--port must be at most {_LARGEST_PORT}, got {number}")
    return number


def _default_path(folders: tuple[Path, ...]) -> Path:
    return folders[0] / "report.html" if len(folders) == 1 else Path("report.html")


def _recorded(found: list[RunFiles]) -> list[RecordedRun]:
    """Return the runs that have metrics; say which have none."""
    runs = read_runs(found)
    empty = [files for files, run in zip(found, runs, strict=True) if not (run.updates or run.tests)]
    if len(empty) == len(found):
        raise UsageError(f"{empty[0].folder} has no metrics yet; type trpo-ts resume {empty[0].folder} to train it")
    for files in empty:
        print(f"trpo-ts: {files.folder} has no metrics yet and is left out", file=sys.stderr)
    return [run for run in runs if run.updates or run.tests]
