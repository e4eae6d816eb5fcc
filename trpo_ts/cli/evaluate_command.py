"""``trpo-ts evaluate``: episodes with the policy of a run."""

from __future__ import annotations

from pathlib import Path

import torch

import trpo_ts
from trpo_ts.cli.commands import Evaluate
from trpo_ts.cli.run_files import RunFiles
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.training.job_config import check_seed
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["evaluate"]


def evaluate(command: Evaluate) -> int:
    """Play the episodes, print the mean return, film some if asked to, and return the exit code."""
    with refused_values():
        check_integer("--episodes", command.episodes, 1)
        check_seed("--seed", command.seed)
    path, threads = _checkpoint(command)
    torch.set_num_threads(threads)
    with refused_values():
        agent = trpo_ts.load(path)
        film = None if command.video is None else agent.record_video(command.video, seed=command.seed)
        result = agent.evaluate(command.episodes, command.seed)
    print(
        f"{agent.known_task().task}, {path.name}: mean return {result.mean:.2f}, standard deviation {result.std:.2f}, "
        f"{command.episodes} episodes"
    )
    if film is not None:
        print(f"video of one episode: {film}")
    return 0


def _checkpoint(command: Evaluate) -> tuple[Path, int]:
    """Return the checkpoint that is meant, and on how many threads its policy is evaluated."""
    if command.run.is_file():
        if command.checkpoint is not None:
            raise UsageError(f"{command.run} is a checkpoint; type --checkpoint with the folder of a run only")
        return command.run, 1
    files = RunFiles(command.run)
    threads = files.read().threads
    kind = command.checkpoint or ("best" if files.best.is_file() else "last")
    path = files.best if kind == "best" else files.last
    if not path.is_file():
        raise UsageError(f"{path} does not exist; type --checkpoint {'last' if kind == 'best' else 'best'}")
    return path, threads
