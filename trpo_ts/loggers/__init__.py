"""Loggers for Tianshou's trainers that write every update, over environment steps, and survive a restart."""

from trpo_ts.loggers.combined import CombinedLogger
from trpo_ts.loggers.json_lines import JsonLinesLogger
from trpo_ts.loggers.tensorboard_events import EnvStepTensorboardLogger, tensorboard_logger
from trpo_ts.loggers.wandb_run import EnvStepWandbLogger, wandb_logger

__all__ = [
    "CombinedLogger",
    "EnvStepTensorboardLogger",
    "EnvStepWandbLogger",
    "JsonLinesLogger",
    "tensorboard_logger",
    "wandb_logger",
]
