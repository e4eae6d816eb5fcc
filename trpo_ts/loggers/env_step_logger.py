"""What the loggers share that count everything in environment steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from tianshou.utils.logger.logger_base import BaseLogger

from trpo_ts.loggers.scalars import scalars_of

__all__ = ["EnvStepLogger"]


class EnvStepLogger(BaseLogger):
    """A logger that writes every training step, test and epoch at the environment steps collected until then.

    Tianshou counts updates by updates and epochs by epochs, so that no curve of an update fits beside one of returns.
    Its trainer tells of an update before it has counted the steps that were collected for it; so an update is written
    with them. Where a training step updates several times, as those of off-policy algorithms, the last one is written.

    It is for trainers that collect: those of offline algorithms never tell of environment steps.
    """

    _waiting: dict[str, Any]
    """Numbers of an update whose environment steps are not known yet."""
    _env_step: int
    save_interval: int | None
    """Epochs between two checkpoints; None for none."""
    last_save_step: int

    def begin_counting(self) -> None:
        """Write everything from now on; for constructors, in which Tianshou's classes set intervals."""
        self.training_interval = self.test_interval = self.update_interval = self.info_interval = 1
        self._waiting, self._env_step = {}, 0

    @abstractmethod
    def write_scalars(self, scope: str, env_step: int, values: dict[str, Any]) -> None:
        """Write numbers by their whole names, such as ``update/kl/mean``.

        :param scope: on whose occasion: ``training``, ``test``, ``info``, ``save``, or one of the caller's.
        :param env_step: environment steps collected since the start.
        """

    def prepare_dict_for_logging(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the numbers that are written; see :func:`trpo_ts.loggers.scalars.scalars_of`."""
        return scalars_of(log_data)

    def write(self, step_type: str, step: int, data: dict[str, Any]) -> None:
        """Write numbers of the caller's own, as with every logger of Tianshou's.

        :param step_type: the scope, and after a slash what is counted, such as ``mine/env_step``.
        :param step: environment steps.
        """
        scope = step_type.partition("/")[0]
        self.write_scalars(scope, step, {f"{scope}/{name}": value for name, value in data.items()})

    def log_update_data(self, log_data: dict[str, Any], step: int) -> None:
        """Keep the stats of an update until its environment steps are known.

        :param step: the number of the training step, from 1; it is written as ``update/update_step``.
        """
        numbers = {"update_step": step, **scalars_of(log_data)}
        self._waiting = {f"update/{name}": value for name, value in numbers.items()}

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        """Write a training step: what was collected, and the update.

        :param step: environment steps collected since the start, this training step's included.
        """
        collected = {f"training/{name}": value for name, value in scalars_of(log_data).items()}
        update, self._waiting, self._env_step = self._waiting, {}, step
        self.write_scalars("training", step, {**update, **collected})

    def log_test_data(self, log_data: dict[str, Any], step: int) -> None:
        """Write a test, once for the same environment steps."""
        self._env_step = step
        if step > self.last_log_test_step:
            self.last_log_test_step = step
            self.write("test/env_step", step, scalars_of(log_data))

    def log_info_data(self, log_data: dict[str, Any], step: int) -> None:
        """Write the summary of an epoch, whose number is ``step``."""
        self.write("info/env_step", self._env_step, {"epoch": step, **scalars_of(log_data)})

    def save_if_due(
        self, epoch: int, env_step: int, update_step: int, save_checkpoint_fn: Callable[[int, int, int], str] | None
    ) -> bool:
        """Call ``save_checkpoint_fn`` where it is due, and return whether it was."""
        if self.save_interval is None or save_checkpoint_fn is None or epoch - self.last_save_step < self.save_interval:
            return False
        self.last_save_step = epoch
        save_checkpoint_fn(epoch, env_step, update_step)
        return True

    def continue_after(self, env_step: int, last_test: int) -> None:
        """Continue after so many environment steps, of which the last test was after ``last_test``."""
        self._waiting, self._env_step, self.last_log_test_step = {}, env_step, last_test
