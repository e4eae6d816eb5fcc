"""Several loggers at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tianshou.utils.logger.logger_base import BaseLogger, TRestoredData

from trpo_ts.validation.parameter_values import check_instance

__all__ = ["CombinedLogger"]


class CombinedLogger(BaseLogger):
    """A logger that passes every call to several others, in their order; each keeps its own intervals.

    A :class:`trpo_ts.checkpoints.ResumableTrainer` saves what they remember, and cuts what they wrote, as it does with
    each alone.

    :param loggers: the loggers.
    :raises ValueError: for something that is no logger of Tianshou's kind.
    """

    def __init__(self, *loggers: BaseLogger) -> None:
        super().__init__()
        for logger in loggers:
            check_instance("loggers", logger, BaseLogger, "such as tensorboard_logger(folder)")
        self.loggers = loggers

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        """Pass on a training step."""
        for logger in self.loggers:
            logger.log_training_data(log_data, step)

    def log_test_data(self, log_data: dict[str, Any], step: int) -> None:
        """Pass on a test."""
        for logger in self.loggers:
            logger.log_test_data(log_data, step)

    def log_update_data(self, log_data: dict[str, Any], step: int) -> None:
        """Pass on an update."""
        for logger in self.loggers:
            logger.log_update_data(log_data, step)

    def log_info_data(self, log_data: dict[str, Any], step: int) -> None:
        """Pass on the summary of an epoch."""
        for logger in self.loggers:
            logger.log_info_data(log_data, step)

    def prepare_dict_for_logging(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the dict as it is: each logger prepares its own."""
        return log_data

    def write(self, step_type: str, step: int, data: dict[str, Any]) -> None:
        """Pass on what a caller writes beside the trainer's own data."""
        for logger in self.loggers:
            logger.write(step_type, step, data)

    def finalize(self) -> None:
        """Close all."""
        for logger in self.loggers:
            logger.finalize()

    def save_data(
        self,
        epoch: int,
        env_step: int,
        update_step: int,
        save_checkpoint_fn: Callable[[int, int, int], str] | None = None,
    ) -> None:
        """Let each decide whether a checkpoint is saved; the function is called once, however many want it."""
        save_once = None if save_checkpoint_fn is None else cache(save_checkpoint_fn)
        for logger in self.loggers:
            logger.save_data(epoch, env_step, update_step, save_once)

    def restore_data(self) -> tuple[int, int, int]:
        """Return epoch, environment steps and updates of the first logger that has any."""
        return next((found for found in (logger.restore_data() for logger in self.loggers) if any(found)), (0, 0, 0))

    def get_state(self) -> dict[str, Any]:
        """Return what the loggers remember, by the names of their classes."""
        return {name: logger.get_state() for name, logger in self._remembering()}

    def check_state(self, state: dict[str, Any]) -> None:
        """Check that what :meth:`get_state` returned fits the loggers.

        :raises ValueError: otherwise.
        """
        for name, logger in self._remembering():
            if name in state:
                logger.check_state(state[name])

    def set_state(self, state: dict[str, Any]) -> None:
        """Let each logger remember its part; one that has none begins anew, and a warning says so."""
        for name, logger in self._remembering():
            if name in state:
                logger.set_state(state[name])
            else:
                warnings.warn(f"{name} begins anew, because the run was saved without it", stacklevel=2)

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Let each logger that can take out of its files what was written later than this."""
        for logger in self.loggers:
            cut: Callable[..., None] | None = getattr(logger, "cut_after", None)
            if cut is not None:
                cut(epoch=epoch, env_step=env_step, update_step=update_step)

    def _remembering(self) -> Iterator[tuple[str, Any]]:
        """Yield the loggers that remember what they were told; a second one of a class has a number in its name."""
        counts: dict[str, int] = {}
        for logger in self.loggers:
            if all(hasattr(logger, method) for method in ("get_state", "check_state", "set_state")):
                name = type(logger).__name__
                counts[name] = counts.get(name, 0) + 1
                yield (name if counts[name] == 1 else f"{name} {counts[name]}"), logger

    @staticmethod
    def restore_logged_data(log_path: str) -> TRestoredData:
        """Refuse: the class of the logger that wrote the data reads it.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError("a CombinedLogger writes no file; call restore_logged_data of the logger that did")
