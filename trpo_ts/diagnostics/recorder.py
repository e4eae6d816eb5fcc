"""A Tianshou logger that remembers a training run as records."""

__all__ = ["TrainingRecorder"]

import math
from collections.abc import Callable, Mapping
from numbers import Real
from statistics import fmean
from typing import Any

import numpy as np
from tianshou.utils.logger.logger_base import VALID_LOG_VALS_TYPE, BaseLogger, TRestoredData

from trpo_ts.diagnostics.record_columns import columns_of, evaluations_in, updates_in
from trpo_ts.diagnostics.records import EvaluationRecord, UpdateRecord


class TrainingRecorder(BaseLogger):
    """Gathers an `UpdateRecord` per training step and an `EvaluationRecord` per test, whatever the intervals.

    It is passed to a trainer as its `logger`, and works with any algorithm: a statistic that the algorithm
    does not report, or that is not finite, is None in the record. A training step that collects but does not
    update (the one in which a trainer stops early) gives a record without statistics; where one step updates
    several times, statistics are means and `train_time` is the sum. An offline trainer collects nothing, and
    so leaves evaluations only.

    :param forward_to: a further logger that receives every call, for example a `TensorboardLogger`; its own
        intervals apply to it. It then also decides when checkpoints are saved, and restores the trainer's
        counters. Without it, the trainer's `save_checkpoint_fn` is called after each epoch.

    A `ResumableTrainer` saves the records with the run, so that those of a resumed run begin where the run began.
    """

    def __init__(self, forward_to: BaseLogger | None = None) -> None:
        super().__init__()
        self.updates: list[UpdateRecord] = []
        """Records of the training steps, in their order."""
        self.tests: list[EvaluationRecord] = []
        """Records of the tests, in their order."""
        self._forward_to = forward_to
        self._step = 0
        self._statistics: dict[str, list[float]] = {}

    def log_update_data(self, log_data: dict[str, Any], step: int) -> None:
        """Keep the statistics of an update until its training step is complete.

        :param log_data: the training stats as a dict of numbers, None and summaries with a ``mean``.
        :param step: the number of the training step, from 1.
        """
        if step != self._step:
            # What an interrupted training step, or one of an offline trainer, left belongs to no record.
            self._step, self._statistics = step, {}
        for name in UpdateRecord.statistics():
            value = _finite(log_data.get(name))
            if value is not None:
                self._statistics.setdefault(name, []).append(value)
        if self._forward_to is not None:
            self._forward_to.log_update_data(log_data, step)

    def log_training_data(self, log_data: dict[str, Any], step: int) -> None:
        """Complete the record of a training step.

        :param log_data: the collect stats as a dict.
        :param step: environment steps collected since the start, this training step's included.
        """
        iteration = self._step or (self.updates[-1].iteration + 1 if self.updates else 1)
        means = {name: fmean(values) for name, values in self._statistics.items()}
        if "train_time" in means:
            means["train_time"] = sum(self._statistics["train_time"])
        collect_time = _finite(log_data.get("collect_time"))
        if collect_time:  # 0 where nobody measured it
            means["collect_time"] = collect_time
        self.updates.append(
            UpdateRecord(iteration=iteration, env_steps=step, episode_returns=_returns(log_data), **means)
        )
        self._step, self._statistics = 0, {}
        if self._forward_to is not None:
            self._forward_to.log_training_data(log_data, step)

    def log_test_data(self, log_data: dict[str, Any], step: int) -> None:
        """Record the returns of a test.

        :param log_data: the collect stats of the test as a dict.
        :param step: environment steps of training collected before the test.
        """
        returns = _returns(log_data)
        if returns:
            self.tests.append(EvaluationRecord(env_steps=step, episode_returns=returns))
        if self._forward_to is not None:
            self._forward_to.log_test_data(log_data, step)

    def log_info_data(self, log_data: dict[str, Any], step: int) -> None:
        """Pass on an epoch's summary; it holds nothing that the records lack."""
        if self._forward_to is not None:
            self._forward_to.log_info_data(log_data, step)

    def prepare_dict_for_logging(self, log_data: dict[str, Any]) -> dict[str, VALID_LOG_VALS_TYPE]:
        """Prepare a dict as the further logger would; without one, return it as it is."""
        return log_data if self._forward_to is None else self._forward_to.prepare_dict_for_logging(log_data)

    def write(self, step_type: str, step: int, data: dict[str, VALID_LOG_VALS_TYPE]) -> None:
        """Pass on what a caller writes beside the trainer's own data."""
        if self._forward_to is not None:
            self._forward_to.write(step_type, step, data)

    def finalize(self) -> None:
        """Close the further logger."""
        if self._forward_to is not None:
            self._forward_to.finalize()

    def save_data(
        self,
        epoch: int,
        env_step: int,
        update_step: int,
        save_checkpoint_fn: Callable[[int, int, int], str] | None = None,
    ) -> None:
        """Let the further logger save its metadata and the checkpoint; without one, save the checkpoint.

        :param epoch: number of epochs completed.
        :param env_step: environment steps collected since the start.
        :param update_step: number of training steps since the start.
        :param save_checkpoint_fn: saves a checkpoint, given the three numbers.
        """
        if self._forward_to is not None:
            self._forward_to.save_data(epoch, env_step, update_step, save_checkpoint_fn)
        elif save_checkpoint_fn is not None:
            save_checkpoint_fn(epoch, env_step, update_step)

    def restore_data(self) -> tuple[int, int, int]:
        """Return epoch, environment steps and training steps from the further logger; without one, zeros."""
        return (0, 0, 0) if self._forward_to is None else self._forward_to.restore_data()

    def get_state(self) -> dict[str, Any]:
        """Return all records, as `trpo_ts.checkpoints` writes them."""
        return {"updates": columns_of(self.updates), "tests": columns_of(self.tests)}

    def check_state(self, state: dict[str, Any]) -> None:
        """Check that a state is one that `get_state` returned.

        :raises ValueError: otherwise.
        """
        try:
            updates_in(state["updates"])
            evaluations_in(state["tests"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the records are none that a TrainingRecorder saved: {error}") from error

    def set_state(self, state: dict[str, Any]) -> None:
        """Replace all records by those of which `get_state` returned the state."""
        self.updates[:], self.tests[:] = updates_in(state["updates"]), evaluations_in(state["tests"])
        self._step, self._statistics = 0, {}

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Let the further logger take out of its files what was written later than this, if it can.

        :param epoch: number of epochs completed.
        :param env_step: environment steps collected since the start.
        :param update_step: number of training steps since the start.
        """
        cut: Callable[..., None] | None = getattr(self._forward_to, "cut_after", None)
        if cut is not None:
            cut(epoch=epoch, env_step=env_step, update_step=update_step)

    @staticmethod
    def restore_logged_data(log_path: str) -> TRestoredData:
        """Refuse: records are kept in memory, saved by `save_records` and read by `load_records`.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError("a TrainingRecorder logs to memory; read saved records with load_records")


def _finite(value: object) -> float | None:
    """Return a statistic as a finite float, or None if there is none to be had."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    if not isinstance(value, Real | np.bool_):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _returns(collect_stats: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the finite episode returns of a collect; of several agents' returns their mean."""
    # The stats of an offline collect have no returns at all.
    returns = np.asarray(collect_stats.get("returns", ()), dtype=float)
    if returns.ndim > 1:
        returns = returns.reshape(len(returns), -1).mean(axis=1)
    return tuple(returns[np.isfinite(returns)].tolist())
