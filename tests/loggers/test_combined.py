"""Several loggers at once do what each does alone."""

from __future__ import annotations

import pytest
from resumable import run_until, trainer_of
from runs import ROLLOUT, STEPS, UPDATES, make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.utils import LazyLogger

from trpo_ts.diagnostics import TrainingRecorder, UpdateRecord, load_records
from trpo_ts.loggers import CombinedLogger, JsonLinesLogger, tensorboard_logger

EVERY_UPDATE = [ROLLOUT * n for n in range(1, UPDATES + 1)]


def steps(folder, tag):
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def three(folder):
    return CombinedLogger(
        tensorboard_logger(folder / "events"), TrainingRecorder(), JsonLinesLogger(folder / "metrics.jsonl")
    )


def test_all_are_told_and_a_checkpoint_is_saved_once(tmp_path):
    saved = []
    logger = three(tmp_path)
    algorithm, params = make_run(logger=logger, save_checkpoint_fn=lambda *counters: saved.append(counters) or "path")
    algorithm.run_training(params)
    logger.finalize()
    assert saved == [(1, STEPS, 3), (2, 2 * STEPS, 6)]
    assert steps(tmp_path / "events", "update/kl/mean") == EVERY_UPDATE
    assert steps(tmp_path / "events", "info/best_score") == [STEPS, 2 * STEPS]
    assert logger.loggers[1].updates == logger.loggers[2].updates
    assert len(logger.loggers[1].updates) == UPDATES


def test_a_resumed_run_has_everything_once_in_each(tmp_path):
    run_until(tmp_path / "run", 5, every=2, logger=three(tmp_path))
    logger = three(tmp_path)
    trainer_of(tmp_path / "run", every=2, logger=logger).run()
    assert steps(tmp_path / "events", "update/kl/mean") == EVERY_UPDATE
    assert [record.env_steps for record in logger.loggers[1].updates] == EVERY_UPDATE
    records = load_records(tmp_path / "metrics.jsonl")
    assert [record.env_steps for record in records if isinstance(record, UpdateRecord)] == EVERY_UPDATE


def test_two_of_one_class_keep_their_own_records_and_a_new_one_is_announced():
    first, second = TrainingRecorder(), TrainingRecorder()
    first.updates.append(UpdateRecord(1, 32))
    second.updates.append(UpdateRecord(2, 64))
    state = CombinedLogger(first, LazyLogger(), second).get_state()
    others = [TrainingRecorder() for _ in range(3)]
    combined = CombinedLogger(*others)
    combined.check_state(state)
    with pytest.warns(UserWarning, match="TrainingRecorder 3 begins anew, because the run was saved without it"):
        combined.set_state(state)
    assert [recorder.updates for recorder in others] == [first.updates, second.updates, []]
    with pytest.raises(ValueError, match="the records are none"):
        combined.check_state({"TrainingRecorder 2": {}})


def test_what_is_no_logger_is_refused():
    with pytest.raises(ValueError, match=r"loggers must be .*BaseLogger.*tensorboard_logger\(folder\)"):
        CombinedLogger(TrainingRecorder(), "tensorboard")


def test_the_counters_are_those_of_the_first_logger_that_has_any(tmp_path):
    board = tensorboard_logger(tmp_path)
    board.save_data(2, 64, 4, lambda *counters: "")
    assert CombinedLogger(TrainingRecorder(), board).restore_data() == (2, 64, 4)
    assert CombinedLogger(TrainingRecorder()).restore_data() == (0, 0, 0)
