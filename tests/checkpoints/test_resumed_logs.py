"""A resumed run says so, and its records and curves are those of a run that was never stopped."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from resumable import run_until, trainer_of
from runs import ROLLOUT, STEPS, UPDATES
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from trpo_ts.checkpoints import load_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.diagnostics import EvaluationRecord, TrainingRecorder, UpdateRecord
from trpo_ts.training import tensorboard_logger


def timeless(records):
    return [
        replace(record, train_time=None, collect_time=None) if isinstance(record, UpdateRecord) else record
        for record in records
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The records of a run that was never stopped."""
    recorder = TrainingRecorder()
    trainer_of(tmp_path_factory.mktemp("recorded"), logger=recorder).run()
    return recorder


@pytest.mark.parametrize("stop_after", [1, 4, 5])
def test_a_resumed_run_has_the_records_of_the_whole_run(tmp_path, recorded, stop_after):
    """With a checkpoint at every second update, the run goes back by up to one."""
    run_until(tmp_path, stop_after, every=2, logger=TrainingRecorder())
    recorder = TrainingRecorder()
    resumed = trainer_of(tmp_path, seed=9, every=2, logger=recorder)
    resumed.reset()
    began = resumed._current_update_step
    assert began == {1: 0, 4: 4, 5: 4}[stop_after]
    assert [record.iteration for record in recorder.updates] == list(range(1, began + 1))
    resumed.run()
    assert timeless(recorder.updates) == timeless(recorded.updates)
    assert recorder.tests == recorded.tests
    assert [record.env_steps for record in recorder.tests] == [0, STEPS, 2 * STEPS]


def test_the_same_recorder_forgets_what_the_run_does_again(tmp_path, recorded):
    recorder = TrainingRecorder()
    run_until(tmp_path, 5, every=2, logger=recorder)
    assert len(recorder.updates) == 5
    trainer_of(tmp_path, every=2, logger=recorder).run()
    assert timeless(recorder.updates) == timeless(recorded.updates)


def test_records_survive_a_checkpoint_with_none_and_without_episodes():
    recorder, other = TrainingRecorder(), TrainingRecorder()
    recorder.updates += [
        UpdateRecord(3, 10, (), kl=0.1, accepted=0.0),
        UpdateRecord(4, 20, (1.5, -0.0), vf_loss=1e-300),
        UpdateRecord(5, 30, (2.0,)),
    ]
    recorder.tests += [EvaluationRecord(10, (1.0, 2.0)), EvaluationRecord(20, (3.0,))]
    state = recorder.get_state()
    other.check_state(state)
    other.set_state(state)
    assert (other.updates, other.tests) == (recorder.updates, recorder.tests)
    other.set_state(TrainingRecorder().get_state())
    assert (other.updates, other.tests) == ([], [])


def more_episodes(state):
    state["updates"]["episodes"][0] += 1


def fewer_rows(state):
    state["updates"]["iteration"] = state["updates"]["iteration"][1:]


def negative(state):
    state["tests"]["env_steps"][0] = -1


def infinite(state):
    state["updates"]["statistics"]["kl"][0] = np.inf


def no_arrays(state):
    state["updates"] = 3


@pytest.mark.parametrize("spoil", [more_episodes, fewer_rows, negative, infinite, no_arrays])
def test_records_that_no_run_makes_are_refused_before_anything_changes(tmp_path, spoil):
    trainer_of(tmp_path, logger=TrainingRecorder()).run()
    state = read_file(tmp_path / f"update_{UPDATES:06d}.ckpt")
    spoil(state["run"]["logger"])
    path = write_file(tmp_path / "a.ckpt", state)
    trainer = trainer_of(tmp_path / "other", logger=TrainingRecorder())
    with pytest.raises(ValueError, match="the records are none that a TrainingRecorder saved"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    assert trainer._env_step == 0


@pytest.mark.parametrize("loggers", [(None, TrainingRecorder), (TrainingRecorder, None)])
def test_a_run_may_begin_or_end_to_be_recorded(tmp_path, capsys, loggers):
    before, after = (logger and logger() for logger in loggers)
    run_until(tmp_path, 4, logger=before)
    trainer_of(tmp_path, logger=after, verbose=True).run()
    if after is not None:
        assert [record.iteration for record in after.updates] == [5, 6]
    said = "update_000004.ckpt); new records, because the run was saved without any"
    assert (said in capsys.readouterr().out) == (after is not None)


def test_a_checkpoint_of_an_earlier_version_holds_no_records(tmp_path):
    run_until(tmp_path, 4)
    path = tmp_path / "update_000004.ckpt"
    state = read_file(path)
    del state["run"]["logger"], state["algorithm_metadata"]
    for collector in state["run"]["collectors"].values():
        del collector["why_not"]
    write_file(path, state)
    recorder = TrainingRecorder()
    trainer_of(tmp_path, logger=recorder).run()
    assert [record.iteration for record in recorder.updates] == [5, 6]


def steps(folder, tag):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return sorted(event.step for event in events.Scalars(tag))  # files of one second are read by their names


@pytest.mark.parametrize("recorded_too", [False, True])
def test_no_curve_has_an_update_twice(tmp_path, recorded_too):
    def logger():
        board = tensorboard_logger(tmp_path / "events")
        return TrainingRecorder(board) if recorded_too else board

    run_until(tmp_path, 2, every=10, logger=logger())
    run_until(tmp_path, 5, every=10, logger=logger())  # again from the start, and past the checkpoint of an epoch
    assert steps(tmp_path / "events", "update/kl/mean") == [ROLLOUT * n for n in range(1, 6)]
    trainer_of(tmp_path, every=10, logger=logger()).run()
    updates = [ROLLOUT * n for n in range(1, UPDATES + 1)]
    assert steps(tmp_path / "events", "update/kl/mean") == updates
    assert steps(tmp_path / "events", "training/n_collected_steps") == updates
    assert steps(tmp_path / "events", "test/returns_stat/mean") == [0, STEPS, 2 * STEPS]
    assert steps(tmp_path / "events", "info/best_score") == [STEPS, 2 * STEPS]


def test_a_logger_that_is_used_again_goes_on_in_a_new_file(tmp_path):
    logger = tensorboard_logger(tmp_path / "events")
    run_until(tmp_path, 5, every=2, logger=logger)
    trainer_of(tmp_path, every=2, logger=logger).run()
    assert steps(tmp_path / "events", "update/kl/mean") == [ROLLOUT * n for n in range(1, UPDATES + 1)]


def test_what_others_wrote_before_stays_and_files_without_the_runs_curves_too(tmp_path):
    with SummaryWriter(str(tmp_path), filename_suffix=".mine") as writer:
        writer.add_scalar("mine/score", 1.0, 10**6)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("mine/early", 1.0, 10**6)
        writer.add_scalar("update/kl", 1.0, 96)
        writer.add_scalar("training/returns", 1.0, 96)
        writer.add_scalar("update/kl", 1.0, 97)
        writer.add_scalar("mine/late", 1.0, 0)
    (tmp_path / "events.out.tfevents.0.foreign").write_bytes(b"no events at all, but a name like theirs")
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    logger = tensorboard_logger(tmp_path)
    logger.cut_after(epoch=1, env_step=96, update_step=3)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["mine/early", "mine/score", "training/returns", "update/kl"]
    assert steps(tmp_path, "update/kl") == [96]
    for path, content in whole.items():
        assert content.startswith(path.read_bytes())
        assert (path.read_bytes() == content) == ("mine" in path.name or "foreign" in path.name)


def test_an_event_that_was_written_by_half_is_no_error(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("update/kl", 1.0, step)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    tensorboard_logger(tmp_path).cut_after(epoch=0, env_step=2, update_step=0)
    assert steps(tmp_path, "update/kl") == [0, 1, 2]


@pytest.mark.parametrize("verbose", [True, False])
def test_a_resumed_run_says_where_it_resumes(tmp_path, capsys, caplog, verbose):
    caplog.set_level(logging.INFO)
    run_until(tmp_path, 5, every=2)
    assert "Resumed" not in capsys.readouterr().out
    caplog.clear()
    trainer_of(tmp_path, every=2, verbose=verbose).reset()
    said = f"Resumed from update 4, step {4 * ROLLOUT:,} ({tmp_path / 'update_000004.ckpt'})"
    assert [record.message for record in caplog.records if "Resumed" in record.message] == [said]
    assert capsys.readouterr().out == (f"{said}\n" if verbose else "")
