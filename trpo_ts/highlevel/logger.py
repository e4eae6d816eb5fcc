"""The logger of experiments."""

from __future__ import annotations

import os
from typing import Any

from tianshou.highlevel.logger import LoggerFactoryDefault, TLogger
from tianshou.utils import TensorboardLogger

from trpo_ts.loggers import EnvStepTensorboardLogger, EnvStepWandbLogger, wandb_logger

__all__ = ["LoggerFactoryEveryUpdate"]


class LoggerFactoryEveryUpdate(LoggerFactoryDefault):
    """Tianshou's default logger, with every collection and every update in it, over environment steps.

    Tianshou logs an update when 1000 updates have passed since the last that was logged: of most runs none.
    """

    def create_logger(
        self, log_dir: str, experiment_name: str, run_id: str | None, config_dict: dict[str, Any] | None = None
    ) -> TLogger:
        """Return the logger, as Tianshou's class does."""
        if self.logger_type == "wandb":
            return wandb_logger(
                log_dir,
                project=self.wandb_project,
                name=experiment_name.replace(os.path.sep, "__"),
                entity=self.wandb_entity,
                group=self.group,
                job_type=self.job_type,
                config=config_dict,
                run_id=run_id,
                save_interval=self.save_interval,
                upload_checkpoints=True,
            )
        logger = super().create_logger(log_dir, experiment_name, run_id, config_dict)
        assert isinstance(logger, TensorboardLogger)
        return EnvStepTensorboardLogger(logger.writer, self.save_interval)

    def get_logger_class(self) -> type[TLogger]:
        """Return the class of the logger."""
        return EnvStepWandbLogger if self.logger_type == "wandb" else EnvStepTensorboardLogger
