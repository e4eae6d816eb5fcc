"""The subcommands and their options, typed; this module imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from trpo_ts.choices import EnvBackend
from trpo_ts.presets.job_settings import Settings

__all__ = ["Evaluate", "Report", "Resume", "Tasks", "Train", "command_type"]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train TRPO on a task. Typed again, the same command continues a run that was stopped.

    The defaults below are those of the task's preset: try `trpo-ts train --task Hopper-v5 --help`.
    """

    task: str = "PointMass1D-v0"
    """Id of an environment that is registered with gymnasium, or module:id; trpo-ts tasks lists them."""
    preset: str | None = None
    """Preset with the defaults of all settings; None takes the one for the task."""
    seed: int = 0
    """Seed of networks, actions and environments."""
    out: Path | None = None
    """Folder of the run; None is runs/TASK/seed_SEED. With --seeds, the folder of the runs' folders."""
    seeds: int = 1
    """How many seeds to train, from --seed on, each in a folder seed_N."""
    jobs: int = 1
    """How many seeds to train at the same time, each in a process of its own."""
    threads: int = 1
    """Threads of torch in each process; networks of usual sizes are fastest on one."""
    save_every: float = 10.0
    """Seconds between two checkpoints, which is what a kill may cost; 0 for one after every update."""
    env_backend: EnvBackend = "auto"
    """Who runs the environments."""
    logger: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Who is told beside metrics.jsonl; wandb is told beside TensorBoard."""
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play episodes with the policy of a run and print the mean return."""

    run: tyro.conf.Positional[Path]
    """Folder of the run, or a checkpoint."""
    episodes: int = 20
    """Episodes to play."""
    seed: int = 1_000_000
    """Seed of the episodes; those of training and its tests begin elsewhere."""
    checkpoint: Literal["best", "last"] | None = None
    """Whether to take the policy of the best test or the last one; None: the best, if there were tests."""
    video: Path | None = None
    """File for a video of one episode, .mp4 or .gif."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Continue a run with its own settings."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    steps: int | None = None
    """Environment steps to train for in all; None for those of the run's settings."""
    save_every: float = 10.0
    """Seconds between two checkpoints; see train."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one page about a run, or about several on shared axes: a verdict, charts, settings."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or of the runs that --seeds makes."""
    out: Path | None = None
    """The file; None is report.html, in the folder if there is one, else in the present one."""
    live: bool = False
    """Serve the page on this machine and refresh it while the training lasts, instead of writing a file."""
    port: int | None = None
    """Port of --live, 6007 without it; 0 for any that is free."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """List the registered tasks with their presets, and what to install for them."""


def command_type(train_defaults: Train) -> Any:
    """Return the union of all subcommands, for tyro.

    :param train_defaults: the defaults of ``train``, which depend on the task.
    """
    return (
        Annotated[Train, tyro.conf.subcommand("train", default=train_defaults)]
        | Annotated[Resume, tyro.conf.subcommand("resume")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Tasks, tyro.conf.subcommand("tasks")]
    )
