"""The logger of a run beside its ``metrics.jsonl``."""

from __future__ import annotations

from tianshou.utils.logger.logger_base import BaseLogger

from trpo_ts.cli.run_files import RunConfig, RunFiles
from trpo_ts.cli.usage import UsageError
from trpo_ts.loggers import CombinedLogger, tensorboard_logger, wandb_logger
from trpo_ts.loggers.wandb_run import check_wandb

__all__ = ["check_logger", "run_logger"]


def check_logger(config: RunConfig) -> None:
    """Check that the package of a run's logger is installed.

    :raises ValueError: when it is not; the message says what to install.
    """
    if config.logger == "wandb":
        check_wandb()


def run_logger(config: RunConfig, files: RunFiles) -> BaseLogger | None:
    """Return the logger that a run's configuration asks for; None for none.

    :raises UsageError: when Weights & Biases refuses to begin.
    """
    if config.logger == "none":
        return None
    board = tensorboard_logger(files.folder)
    if config.logger == "tensorboard":
        return board
    import wandb

    job = config.job
    try:
        run = wandb_logger(
            files.folder, name=f"{job.task} seed {job.seed}", group=job.task, config=config.as_dict(), job_type="train"
        )
    except (wandb.Error, ValueError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"wandb: {text}; type wandb login, or set WANDB_MODE=offline") from error
    return CombinedLogger(board, run)
