"""Tianshou's on-policy trainer, which saves checkpoints and resumes from them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm
from tianshou.data import CollectStats, EpochStats, InfoStats
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts.checkpoints.checkpoint import learner_state, load_checkpoint, save_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.logger_state import cut_log
from trpo_ts.checkpoints.progress import best_of, check_best, set_best
from trpo_ts.checkpoints.rank_parts import parts_of_others
from trpo_ts.checkpoints.run_folder import LastCheckpointFolder, RunFolder
from trpo_ts.distributed.rank_errors import announced
from trpo_ts.validation.parameter_values import check_bool, check_integer
from trpo_ts.whole_rollouts import WholeRolloutTrainer

__all__ = ["ResumableTrainer"]

_LOG = logging.getLogger(__name__)


class ResumableTrainer(WholeRolloutTrainer):
    """Tianshou's on-policy trainer with checkpoints: the same call starts a run and continues it.

    >>> ResumableTrainer(algorithm, params, "runs/pendulum").run()  # doctest: +SKIP

    takes the place of ``algorithm.run_training(params)``. A killed run that is started again continues from its newest
    whole checkpoint, with the learner bit for bit as it was; where also the environments can be written down
    (:func:`trpo_ts.checkpoints.environments.environment_state`), it equals a run that was never killed. In the folder
    are ``update_<n>.ckpt``, the newest ``keep`` of them, and ``best.ckpt``, the learner of the best test, which a
    worse one never replaces: a resumed run does not begin with a test. While a run lasts, ``run.lock`` keeps other
    processes out. On several ranks rank 0 writes, and all must see the folder; a checkpoint holds the episodes of each,
    and on another number of ranks new ones begin.

    :param algorithm: the algorithm. What Tianshou's own leave out of their ``state_dict()`` (return statistics,
        learning-rate schedules) starts anew.
    :param params: Tianshou's parameters; their callbacks and logger are called as always. A
        :class:`trpo_ts.diagnostics.TrainingRecorder` gets back the records of the run, and loggers of
        :mod:`trpo_ts.loggers` have no step twice.
    :param folder: the run's own; made if missing. Another run takes another folder.
    :param every: updates between two checkpoints, >= 1; the end of an epoch always has one.
    :param keep: how many of them stay, >= 1; an older one is what is left when the newest is damaged.
    :param numbered: whether they are called ``update_<n>.ckpt``; otherwise the newest is ``last.ckpt`` and the one
        before it, if ``keep`` is above 1, ``previous.ckpt``.
    :raises ValueError: for a value outside its range, for ``params.resume_from_log``, and for a training buffer that
        does not hold a rollout.
    """

    def __init__(
        self,
        algorithm: OnPolicyAlgorithm[Any],
        params: OnPolicyTrainerParams,
        folder: str | os.PathLike[str],
        *,
        every: int = 10,
        keep: int = 2,
        numbered: bool = True,
    ) -> None:
        super().__init__(algorithm, params)
        if params.resume_from_log:
            raise ValueError("params.resume_from_log must be False, got True: the counters are in the checkpoint")
        self.folder = Path(folder)
        self.every = check_integer("every", every, 1)
        self.keep = check_integer("keep", keep, 1)
        kind = RunFolder if check_bool("numbered", numbered) else LastCheckpointFolder
        self._run_folder = kind(self.folder)
        self._writes = self._ranks.rank == 0

    def run(self, reset_collectors: bool = True, reset_collector_buffers: bool = False) -> InfoStats:
        """Train as Tianshou does, from where the run in the folder was.

        :raises RuntimeError: when another process has the folder; it names the process and its host.
        """
        try:
            return super().run(reset_collectors, reset_collector_buffers)
        finally:
            self._run_folder.lock.release()

    def reset(self, reset_collectors: bool = True, reset_collector_buffers: bool = False) -> None:
        """Resume from the newest whole checkpoint in the folder; without any, begin as Tianshou does.

        :raises ValueError: when there are checkpoints and none can be loaded; the message is the newest one's.
        :raises RuntimeError: see :meth:`run`.
        """
        begins = False
        with announced(self._ranks):
            if self._writes:
                self._run_folder.lock.acquire()
                self._run_folder.remove_temporaries()
                begins = not self._run_folder.checkpoints()
            begins = bool(self._ranks.gather([begins])[0][0])
        if begins:
            super().reset(reset_collectors, reset_collector_buffers)
            self._epoch_began_at = 0
            self._save()
            return
        self._resume()

    def execute_epoch(self) -> EpochStats:
        """Perform an epoch, or what is left of it, and save a checkpoint.

        :raises RuntimeError: see :meth:`run`.
        """
        if self._writes:
            self._run_folder.lock.acquire()
        whole = self.params.epoch_num_steps
        self.params.epoch_num_steps = whole - self._steps_to_skip
        try:
            stats = super().execute_epoch()
        finally:
            self.params.epoch_num_steps = whole
            self._steps_to_skip = 0
        self._save()
        return stats

    def _training_step(self) -> WholeRolloutTrainer._TrainingStepResult:
        if self._writes:
            self._run_folder.lock.beat()
        # Here the step before is complete: it is counted, logged, and its buffer empty.
        steps = self._env_step - self._epoch_began_at
        if steps > 0 and self._is_save_due(self._current_update_step - 1):
            self._save(steps)
        return super()._training_step()

    def _is_save_due(self, updates: int) -> bool:
        """Return whether a checkpoint is to be written after so many updates, within an epoch."""
        return updates % self.every == 0

    def _test_step(
        self, force_update_best: bool = False, log_msg_prefix: str | None = None
    ) -> tuple[CollectStats, bool]:
        before = self._best_score
        result = super()._test_step(force_update_best, log_msg_prefix)
        if force_update_best or self._best_score > before:
            with announced(self._ranks):
                if self._writes and not self._take_better_best():
                    envs = self.params.training_collector.env
                    write_file(self._run_folder.best, {**learner_state(self.algorithm, envs), "best": best_of(self)})
                self._share_best()
        return result

    def _share_best(self) -> None:
        """Give all ranks the best score of the one that reads the files."""
        set_best(self, self._ranks.gather_objects(best_of(self))[0])

    def _save(self, steps_in_epoch: int | None = None) -> None:
        updates = self._current_update_step - (steps_in_epoch is not None)
        path = self._run_folder.checkpoint(updates)
        with announced(self._ranks):
            others = parts_of_others(self.algorithm, self, self._ranks)
        with announced(self._ranks):
            if self._writes:
                self._run_folder.make_room()
                save_checkpoint(
                    path, algorithm=self.algorithm, trainer=self, steps_in_epoch=steps_in_epoch, others=others
                )
                self._run_folder.remove_all_but(self.keep)
            self._ranks.gather([])

    def _resume(self) -> None:
        path, loaded = self._load_newest()
        self._steps_to_skip = loaded["steps_in_epoch"]
        with announced(self._ranks):
            if self._writes:
                self._take_better_best()
            self._share_best()
        self._observations.begin()
        cut_log(self)
        new = "".join(f"; new {name}, because {why}" for name, why in loaded["begins_anew"].items())
        self._say(f"Resumed from update {self._current_update_step:,}, step {self._env_step:,} ({path}){new}")

    def _load_newest(self) -> tuple[Path, dict[str, Any]]:
        """Load the newest checkpoint that rank 0 can load; the others load the same one."""
        found: tuple[Path, dict[str, Any]] | None = None
        with announced(self._ranks):
            if self._writes:
                found = self._run_folder.load_newest(self._load)
            path = Path(self._ranks.gather_objects(None if found is None else str(found[0]))[0])
        with announced(self._ranks):
            loaded = self._load(path) if found is None else found[1]
            self._ranks.gather([])
        return path, loaded

    def _load(self, path: Path) -> dict[str, Any]:
        return load_checkpoint(path, algorithm=self.algorithm, trainer=self)

    def _say(self, text: str) -> None:
        _LOG.info(text)
        if self.params.verbose:  # as Tianshou says what it tested
            print(text, flush=True)

    def _take_better_best(self) -> bool:
        """Take the best score from ``best.ckpt`` if it is higher: the file may be newer than the run's checkpoint."""
        try:
            best = read_file(self._run_folder.best)["best"]
            check_best(best)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if not best["best_score"] > self._best_score:
            return False
        set_best(self, best)
        return True
