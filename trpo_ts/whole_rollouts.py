"""Rollouts that reach the update as a whole: a buffer that is too small keeps their ends only, and nobody is told."""

from __future__ import annotations

from typing import Any, cast

from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm, TrainingStats
from tianshou.data import (
    BaseCollector,
    CachedReplayBuffer,
    CollectStats,
    CollectStatsBase,
    EpochStats,
    InfoStats,
    ReplayBuffer,
    ReplayBufferManager,
)
from tianshou.trainer import OnPolicyTrainer, OnPolicyTrainerParams
from tianshou.utils import LazyLogger

from trpo_ts.distributed.rank_errors import announced
from trpo_ts.distributed.ranks_of_process import current_ranks
from trpo_ts.distributed.same_update import start_alike
from trpo_ts.distributed.whole_job import ObservationStatistics, stats_of_all
from trpo_ts.swallowed_updates import warn_of_swallowed_updates
from trpo_ts.validation.environment_checks import check_separate_environments

__all__ = ["WholeRolloutTrainer", "check_not_overwritten", "check_rollout_fits"]


def check_rollout_fits(collector: BaseCollector[Any], steps: int | None) -> None:
    """Check that a collector's buffer holds the environment steps of one collect.

    :param collector: the training collector.
    :param steps: ``collection_step_num_env_steps``; None where whole episodes are collected, of any length.
    :raises ValueError: when it does not; it names both numbers.
    """
    if steps is None:
        return
    buffer, envs = collector.buffer, len(collector.env)
    room = buffer.maxsize
    if isinstance(buffer, ReplayBufferManager) and not isinstance(buffer, CachedReplayBuffer):
        room = envs * min(part.maxsize for part in buffer.buffers[:envs])
    if room < steps:
        raise ValueError(
            f"training_collector.buffer must hold the collection_step_num_env_steps = {steps} steps of a rollout, "
            f"got room for {room}{'' if envs == 1 else f' of {envs} environments'}: the update would see the end of "
            f"each rollout only; take VectorReplayBuffer({-(-steps // envs) * envs}, {envs})"
        )


def check_not_overwritten(buffer: ReplayBuffer) -> None:
    """Check that no transition in a buffer has been overwritten by a later one, as far as the buffer shows it.

    It does not where exactly a multiple of its size was added.

    :raises ValueError: when one has.
    """
    for part in buffer.buffers if isinstance(buffer, ReplayBufferManager) else [buffer]:
        if len(part) == part.maxsize and part._insertion_idx != 0:
            raise ValueError(
                f"buffer must hold the whole rollout, got one whose {part.maxsize} rows per environment are full and "
                "begin to be overwritten; make it as large as a collect, and reset it after each update with "
                "reset_buffer(keep_statistics=True) of the collector"
            )


class WholeRolloutTrainer(OnPolicyTrainer):
    """Tianshou's on-policy trainer, which ends in an error where a rollout does not fit into the buffer.

    It tells the algorithm how far the training is, for parameters with a schedule. On several ranks it counts steps,
    episodes and returns of all of them, so that each takes the same decisions; only rank 0 logs and prints.

    :param algorithm: the algorithm.
    :param params: Tianshou's parameters.
    :raises ValueError: when ``params.training_collector.buffer`` is smaller than a collect, or two workers of a
        collector share one environment.
    """

    def __init__(self, algorithm: OnPolicyAlgorithm[Any], params: OnPolicyTrainerParams) -> None:
        check_rollout_fits(params.training_collector, params.collection_step_num_env_steps)
        for collector in (params.training_collector, params.test_collector):
            if collector is not None:
                check_separate_environments(collector.env)
        self._ranks = current_ranks()
        if self._ranks.rank > 0:
            params.logger, params.verbose, params.show_progress = LazyLogger(), False, False
        super().__init__(algorithm, params)
        self._observations = ObservationStatistics(params.training_collector.env, self._ranks)
        self._collected_here = 0
        self._whole_epoch = params.epoch_num_steps
        self._epoch_began_at = 0
        self._steps_to_skip = 0
        """Steps of the present epoch that an earlier process has done."""

    def reset(self, reset_collectors: bool = True, reset_collector_buffers: bool = False) -> None:
        """Begin as Tianshou does, on all ranks with the networks and observation statistics of rank 0."""
        start_alike(self.algorithm)
        self._observations.begin()
        super().reset(reset_collectors, reset_collector_buffers)

    def execute_epoch(self) -> EpochStats:
        """Perform an epoch."""
        self._epoch_began_at = self._env_step - self._steps_to_skip
        return super().execute_epoch()

    def _training_step(self) -> OnPolicyTrainer._TrainingStepResult:
        if getattr(self.algorithm, "has_schedules", False):
            # Below 1 always: an epoch ends when its steps are done, and may then have had more.
            share = (self._env_step - self._epoch_began_at) / self._whole_epoch
            cast(Any, self.algorithm).progress = (self._epoch - 1 + share) / self.params.max_epochs
        return super()._training_step()

    def run(self, reset_collectors: bool = True, reset_collector_buffers: bool = False) -> InfoStats:
        """Train as Tianshou does, and warn before where the logger leaves out the updates."""
        warn_of_swallowed_updates(self.params)
        return super().run(reset_collectors, reset_collector_buffers)

    def _collect_training_data(self) -> CollectStats:
        with announced(self._ranks):
            stats = super()._collect_training_data()
            self._collected_here = stats.n_collected_steps
            of_all = stats_of_all(stats, self._ranks, self._observations)
        self._env_episode += of_all.n_collected_episodes - stats.n_collected_episodes
        return of_all

    def _collect_test_episodes(self) -> CollectStats:
        with announced(self._ranks):
            return stats_of_all(super()._collect_test_episodes(), self._ranks)

    def _update_step(self, collect_stats: CollectStatsBase | None = None) -> TrainingStats:
        # Whole episodes are of any length, so that only now it is known whether they fit.
        held = len(self.params.training_collector.buffer)
        collected = held if collect_stats is None else self._collected_here
        if held < collected:
            raise ValueError(
                f"training_collector.buffer must hold the {collected} steps that were collected, got room for {held}: "
                "the update would see the end of each episode only; make the buffer larger"
            )
        return super()._update_step(collect_stats)
