"""The logger of experiments."""

from __future__ import annotations

from typing import Any

from tianshou.highlevel.logger import LoggerFactoryDefault, TLogger

__all__ = ["LoggerFactoryEveryUpdate"]


class LoggerFactoryEveryUpdate(LoggerFactoryDefault):
    """Tianshou's default logger, with the statistics of every collection and every update in it.

    Tianshou logs an update when 1000 updates have passed since the last that was logged: of most runs none.
    """

    def create_logger(self, *args: Any, **kwargs: Any) -> TLogger:
        """Return the logger, as Tianshou's class does."""
        logger = super().create_logger(*args, **kwargs)
        logger.training_interval = logger.update_interval = 1
        return logger
