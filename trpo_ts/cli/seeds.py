"""Several seeds, some at the same time, each in a process and a folder of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from trpo_ts.cli.run_files import RunConfig, RunFiles
from trpo_ts.cli.run_folders import read_runs
from trpo_ts.cli.run_report import runs_page
from trpo_ts.cli.stop_signals import INTERRUPTED, StopSignals
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.diagnostics import write_json
from trpo_ts.diagnostics.text_files import atomic_write_text
from trpo_ts.distributed.torchrun import size_of_torchrun
from trpo_ts.training.job import build_job

__all__ = ["train_seeds"]

_MOST_SEEDS = 10_000
_RETURNS = ("final_return_mean", "best_test_return", "last_test_return")


def train_seeds(config: RunConfig, folder: Path, count: int, jobs: int, run: Callable[..., int]) -> int:
    """Train with several seeds, and write and print a summary.

    :param config: with the first seed.
    :param folder: gets a folder ``seed_<n>`` for each.
    :param count: how many.
    :param jobs: how many of them at the same time.
    :param run: trains one; see :func:`trpo_ts.cli.train_command.run`.
    :return: the first exit code that is not 0, or 0.
    """
    first = config.job.seed
    if size_of_torchrun() > 1:
        raise UsageError(f"--seeds must be 1 with several ranks, got {count}; start torchrun once for each seed")
    if count > _MOST_SEEDS:
        raise UsageError(f"--seeds must be at most {_MOST_SEEDS}, got {count}")
    with refused_values():
        runs = {
            n: (replace(config, job=replace(config.job, seed=n)), folder / f"seed_{n}")
            for n in range(first, first + count)
        }
    for own, path in runs.values():
        RunFiles(path).check_free_or_same(own)
    with refused_values():
        build_job(config.job).close()  # an error is said once, and before anything is written
    signals = StopSignals()
    with signals.noted():
        codes = _run_all([(run, own, path) for own, path in runs.values()], jobs, signals)
    if any(codes):
        return next(code for code in codes if code)
    _summarise(config, folder, {seed: path for seed, (_, path) in runs.items()})
    return 0


def _run_all(todo: list[tuple[Any, ...]], jobs: int, signals: StopSignals) -> list[int]:
    """Run all, at most so many at the same time, and return their exit codes."""
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    stopping = False
    while True:
        running = [process for process in processes if process.is_alive()]
        if signals.stop and not stopping:
            stopping = True
            for process in running:
                process.terminate()
        if not stopping and len(running) < jobs and len(processes) < len(todo):
            process = context.Process(target=_child, args=(*todo[len(processes)], os.getpid()))
            process.start()
            processes.append(process)
        elif running:
            wait([process.sentinel for process in running], timeout=0.2)
        else:
            return [process.exitcode or 0 for process in processes] + [INTERRUPTED] * (len(todo) - len(processes))


def _child(run: Callable[..., int], config: RunConfig, folder: Path, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent passes it on
    try:
        code = run(config, folder, prefix=f"[seed {config.job.seed}] ", parent=parent)
    except (UsageError, OSError) as error:
        print(f"trpo-ts: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _summarise(config: RunConfig, folder: Path, paths: dict[int, Path]) -> None:
    summaries = [RunFiles(path).read_summary() for path in paths.values()]
    document: dict[str, Any] = {"task": config.job.task, "seeds": list(paths)}
    for name in _RETURNS:
        values = [summary[name] for summary in summaries if summary[name] is not None]
        if values:
            document[name] = {"mean": float(np.mean(values)), "std": float(np.std(values)), "values": values}
            print(f"{name}: {np.mean(values):.2f} +- {np.std(values):.2f} over {len(values)} seeds")
    write_json(folder / "summary.json", document)
    print(f"summary: {folder / 'summary.json'}", flush=True)
    report = atomic_write_text(folder / "report.html", runs_page(read_runs([*map(RunFiles, paths.values())])).html())
    print(f"report: {report}", flush=True)
