"""``trpo-ts evaluate``: episodes with the policy of a run."""

from __future__ import annotations

from dataclasses import replace

import torch
from tianshou.data import Collector, CollectStats

from trpo_ts.checkpoints import load_checkpoint
from trpo_ts.cli.commands import Evaluate
from trpo_ts.cli.compiled_functions import keep_compiled
from trpo_ts.cli.run_files import RunFiles
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.training.job import build_job
from trpo_ts.training.job_config import check_seed
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["evaluate"]


def evaluate(command: Evaluate) -> int:
    """Play the episodes, print the mean return, and return the exit code."""
    files = RunFiles(command.run)
    config = files.read()
    with refused_values():
        check_integer("--episodes", command.episodes, 1)
        check_seed("--seed", command.seed)
    kind = command.checkpoint or ("best" if files.best.is_file() else "last")
    path = files.best if kind == "best" else files.last
    if not path.is_file():
        raise UsageError(f"{path} does not exist; type --checkpoint {'last' if kind == 'best' else 'best'}")
    torch.set_num_threads(config.threads)
    keep_compiled()
    with refused_values():
        settings = replace(config.job.settings, test_episodes=command.episodes, test_every=1)
        job = build_job(replace(config.job, settings=settings))
        load_checkpoint(path, algorithm=job.algorithm, envs=job.test_envs)
    assert job.test_envs is not None
    assert isinstance(job.test_collector, Collector)
    job.test_envs.seed(command.seed)
    job.test_collector.reset_env()
    stats: CollectStats = job.test_collector.collect(n_episode=command.episodes)
    assert stats.returns_stat is not None
    job.close()
    print(
        f"{config.job.task}, {path.name}: mean return {stats.returns_stat.mean:.2f}, standard deviation "
        f"{stats.returns_stat.std:.2f}, {command.episodes} episodes"
    )
    return 0
