"""The runs that a report is about, read from their folders."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trpo_ts.cli.run_files import RunFiles
from trpo_ts.cli.run_report import recorded_run
from trpo_ts.cli.usage import UsageError
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, load_records
from trpo_ts.reports import RecordedRun

__all__ = ["find_runs", "read_runs"]


def find_runs(folders: Sequence[Path]) -> list[RunFiles]:
    """Return the runs in these folders: in each itself or, as ``--seeds`` makes them, in folders within it.

    A run that is named twice is one.

    :raises UsageError: when a folder has none.
    """
    found: dict[Path, RunFiles] = {}
    for folder in folders:
        inside = folder.iterdir() if folder.is_dir() else ()
        inner = sorted((path for path in inside if path.is_dir()), key=_natural)
        runs = [RunFiles(path) for path in [folder] if RunFiles(path).config.is_file()]
        runs = runs or [RunFiles(path) for path in inner if RunFiles(path).config.is_file()]
        if not runs:
            raise UsageError(f"{folder} holds no run; type the folder that trpo-ts train named")
        for files in runs:
            found.setdefault(files.folder.resolve(), files)
    return list(found.values())


def read_runs(found: Sequence[RunFiles]) -> list[RecordedRun]:
    """Return the runs with what was recorded of them so far, each with a name of its own.

    :raises UsageError: for files that hold something else.
    """
    folders = [files.folder.resolve() for files in found]
    parent = os.path.commonpath([folder.parent for folder in folders])
    return [
        replace(_read(files), name=str(folder.relative_to(parent)))
        for files, folder in zip(found, folders, strict=True)
    ]


def _read(files: RunFiles) -> RecordedRun:
    config = files.read()
    try:
        records = load_records(files.metrics, unfinished=True) if files.metrics.exists() else []
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{' '.join(str(error).split())}; type trpo-ts resume {files.folder} to write the file anew from the "
            "checkpoint"
        ) from error
    updates = [record for record in records if isinstance(record, UpdateRecord)]
    tests = [record for record in records if isinstance(record, EvaluationRecord)]
    return recorded_run(files, config, updates, tests, files.read_summary())


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts ``seed_10`` after ``seed_9``."""
    return [(int(part or 0), part) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]
