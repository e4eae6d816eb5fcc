"""Loggers that remember, as part of a run."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from tianshou.trainer import OnPolicyTrainer

__all__ = ["RemembersRun", "WritesRun", "check_logger_state", "cut_log", "logger_state", "set_logger_state"]


@runtime_checkable
class RemembersRun(Protocol):
    """A logger that keeps in memory what it was told, as :class:`trpo_ts.diagnostics.TrainingRecorder` does."""

    def get_state(self) -> dict[str, Any]:
        """Return all that it was told, in numbers, texts, arrays and containers."""

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise a ``ValueError`` for what :meth:`get_state` does not return."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Remember what was told to the logger whose state this is, and nothing else."""


@runtime_checkable
class WritesRun(Protocol):
    """A logger that writes to files, of which a part is not true any more when the run resumes before its end."""

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Take out of the files what was written after these epochs, environment steps and updates."""


def logger_state(trainer: OnPolicyTrainer) -> dict[str, Any] | None:
    """Return what the trainer's logger remembers; None where it cannot tell."""
    return trainer._logger.get_state() if isinstance(trainer._logger, RemembersRun) else None


def check_logger_state(trainer: OnPolicyTrainer, state: dict[str, Any] | None) -> None:
    """Check that what :func:`logger_state` returned fits the trainer's logger.

    :raises ValueError: otherwise.
    """
    if state is not None and isinstance(trainer._logger, RemembersRun):
        trainer._logger.check_state(state)


def set_logger_state(trainer: OnPolicyTrainer, state: dict[str, Any] | None) -> bool:
    """Set what :func:`logger_state` returned; a logger of another kind stays as it is.

    :return: whether the logger remembers, and there is nothing for it.
    """
    if not isinstance(trainer._logger, RemembersRun):
        return False
    if state is not None:
        trainer._logger.set_state(state)
    return state is None


def cut_log(trainer: OnPolicyTrainer) -> None:
    """Take out of the log's files what was written after the trainer's counters."""
    if isinstance(trainer._logger, WritesRun):
        trainer._logger.cut_after(
            epoch=trainer._epoch, env_step=trainer._env_step, update_step=trainer._current_update_step
        )
