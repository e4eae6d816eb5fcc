"""``trpo-ts train`` and ``trpo-ts resume``."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tianshou.utils import LazyLogger

from trpo_ts.checkpoints.run_lock import RunLock
from trpo_ts.cli.commands import Resume, Train
from trpo_ts.cli.compiled_functions import keep_compiled
from trpo_ts.cli.console import Progress, describe_result, describe_settings
from trpo_ts.cli.metrics_recorder import MetricsRecorder
from trpo_ts.cli.run_files import RunConfig, RunFiles
from trpo_ts.cli.run_logger import check_logger, run_logger
from trpo_ts.cli.run_report import summarise, write_run_report
from trpo_ts.cli.run_trainer import RunTrainer, StoppedError
from trpo_ts.cli.seeds import train_seeds
from trpo_ts.cli.stop_signals import INTERRUPTED, StopSignals
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.distributed.rank_errors import announced
from trpo_ts.distributed.torchrun import ranks_of_torchrun
from trpo_ts.envs.tasks import backend_of
from trpo_ts.presets import choose_preset
from trpo_ts.training.job import Job, build_job
from trpo_ts.training.job_config import JobConfig
from trpo_ts.validation.parameter_values import check_integer, check_real

__all__ = ["resume", "run", "train"]


def train(command: Train) -> int:
    """Train one seed or several, and return the exit code."""
    with refused_values():
        for name in ("seeds", "jobs", "threads"):
            check_integer(f"--{name}", getattr(command, name), 1)
        check_real("--save-every", command.save_every, 0.0)
        backend = backend_of(command.task, command.env_backend)
        settings = command.settings
        preset = choose_preset(command.task, command.preset, backend=backend, **settings.shaping())
        job = JobConfig(
            task=command.task,
            seed=command.seed,
            preset=preset.name,
            env_backend=backend,
            settings=settings,
        )
        config = RunConfig(job, command.threads, command.logger)
        check_logger(config)
    if command.jobs > 1 and command.seeds == 1:
        raise UsageError(f"--jobs {command.jobs} needs several seeds; type --seeds {command.jobs} too")
    folder = Path("runs") / job.task.replace("/", "-").replace(":", "-")
    if command.seeds == 1:
        return run(config, command.out or folder / f"seed_{job.seed}", save_every=command.save_every)
    run_one = partial(run, save_every=command.save_every)
    return train_seeds(config, command.out or folder, command.seeds, command.jobs, run_one)


def resume(command: Resume) -> int:
    """Continue a run, and return the exit code."""
    config = RunFiles(command.run).read()
    with refused_values():
        check_real("--save-every", command.save_every, 0.0)
        check_logger(config)
    if command.steps is not None:
        with refused_values():
            settings = replace(config.job.settings, steps=check_integer("--steps", command.steps, 1))
            config = replace(config, job=replace(config.job, settings=settings))
    return run(config, command.run, save_every=command.save_every)


def run(config: RunConfig, folder: Path, *, save_every: float, prefix: str = "", parent: int | None = None) -> int:
    """Train in a folder, from where the run there was, and return the exit code.

    :param save_every: seconds between two checkpoints.
    :param prefix: begins each line that is printed.
    :param parent: the process that started this one as one of several; None for none.
    """
    files, signals, lock = RunFiles(folder), StopSignals(parent), RunLock(folder)
    with signals.noted(), ranks_of_torchrun() as ranks:
        with announced(ranks):
            if ranks.rank == 0:
                files.check_free_or_same(config)
            torch.set_num_threads(config.threads)
            keep_compiled()
            with refused_values():
                # Several runs, or ranks, use the cores.
                job = build_job(config.job, env_threads=None if parent is None and ranks.size == 1 else 1)
        if ranks.rank > 0:
            return _follow(job, folder, signals, save_every)
        try:
            _acquire(lock)
            files.remove_remains()
            files.write(config)
            progress = Progress(config.job.settings.whole_steps, prefix=prefix)
            recorder = MetricsRecorder(files.metrics, progress.tell, run_logger(config, files))
            trainer = RunTrainer(job, folder, recorder, signals, save_every, on_start=progress.start)
            try:
                return _train(trainer, recorder, progress, config, files)
            finally:
                recorder.finalize()
        finally:
            lock.release()
            job.close()


def _follow(job: Job, folder: Path, signals: StopSignals, save_every: float) -> int:
    """Train as rank 0 does, and write and print nothing."""
    recorder = MetricsRecorder(Path(os.devnull), lambda record: None, LazyLogger())
    try:
        RunTrainer(job, folder, recorder, signals, save_every, on_start=lambda steps, said: None).run()
    except (StoppedError, KeyboardInterrupt):
        return INTERRUPTED
    finally:
        job.close()
    return 0


def _acquire(lock: RunLock) -> None:
    try:
        lock.acquire()
    except RuntimeError as error:
        raise UsageError(str(error)) from error


def _train(
    trainer: RunTrainer, recorder: MetricsRecorder, progress: Progress, config: RunConfig, files: RunFiles
) -> int:
    job = config.job
    progress.say(f"TRPO on {job.task}, seed {job.seed}, preset {job.preset}, into {files.folder}")
    if not progress.prefix:
        progress.say(describe_settings(job.as_dict()))
    try:
        info = trainer.run()
    except (StoppedError, KeyboardInterrupt):
        progress.close()
        progress.say(f"stopped; saved up to step {trainer.saved_steps:,} in {files.last}")
        progress.say(f"to continue, type: trpo-ts resume {files.folder}")
        return INTERRUPTED
    progress.close()
    summary = summarise(
        files,
        config,
        recorder.updates,
        recorder.tests,
        wall_seconds=info.timing.total_time,
        test_seconds=recorder.test_seconds,
    )
    write_run_report(files, config, recorder.updates, recorder.tests, summary)
    progress.say(f"{describe_result(summary)}; {files.report}")
    return 0
