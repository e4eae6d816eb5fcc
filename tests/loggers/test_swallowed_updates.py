"""Updates that a logger would leave out are announced once, with the fix, and nothing else is."""

from __future__ import annotations

import warnings

import pytest
from resumable import trainer_of
from runs import make_run
from tianshou.utils import LazyLogger, TensorboardLogger
from torch.utils.tensorboard import SummaryWriter

from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.loggers import CombinedLogger, tensorboard_logger
from trpo_ts.swallowed_updates import warn_of_swallowed_updates


def said(logger, **settings):
    _, params = make_run(logger=logger, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_swallowed_updates(params)
    return [str(warning.message) for warning in caught]


@pytest.fixture
def board(tmp_path):
    def make(**intervals):
        return TensorboardLogger(SummaryWriter(str(tmp_path)), **intervals)

    return make


def test_a_training_says_how_many_and_what_to_do_and_says_it_once(board):
    algorithm, params = make_run(logger=board(), tests=False)
    with pytest.warns(UserWarning, match="will not be in the log") as caught:
        algorithm.run_training(params)
    (text,) = [str(w.message) for w in caught if "will not be in the log" in str(w.message)]
    assert text == (
        "TensorboardLogger has update_interval=1000, so that 6 of 6 updates will not be in the log: take "
        "trpo_ts.training.tensorboard_logger(folder), or TensorboardLogger(..., training_interval=1, update_interval=1)"
    )


def test_a_resumable_trainer_says_it_too(tmp_path, board):
    with pytest.warns(UserWarning, match="6 of 6 updates will not be in the log"):
        trainer_of(tmp_path / "run", logger=board(), tests=False).run()


@pytest.mark.parametrize(
    ("epochs", "lost"), [(332, "996 of 996"), (333, "998 of 999"), (334, "1,001 of 1,002"), (1000, "2,997 of 3,000")]
)
def test_the_number_is_that_of_tianshous_rule(board, epochs, lost):
    """Three updates an epoch; the first that is written is number 999, since Tianshou counts from -1 on."""
    (text,) = said(board(), max_epochs=epochs)
    assert f"so that {lost} updates" in text


def test_loggers_within_others_are_found(board):
    assert len(said(TrainingRecorder(board()))) == 1
    assert len(said(CombinedLogger(TrainingRecorder(), board(), TrainingRecorder(board())))) == 2


def test_whole_episodes_of_any_length_are_counted_in_thousands(board):
    (text,) = said(board(), collection_step_num_env_steps=None, collection_step_num_episodes=4)
    assert "so that 999 of 1,000 updates" in text


def test_an_interval_that_was_chosen_is_no_reason_unless_nothing_is_left(board):
    assert said(board(update_interval=3)) == []
    assert "so that 6 of 6 updates" in said(board(update_interval=50))[0]


def test_nothing_is_said_of_loggers_that_leave_nothing_out(tmp_path, board):
    everything = (None, LazyLogger(), TrainingRecorder(), tensorboard_logger(tmp_path), board(update_interval=1))
    assert [said(logger) for logger in everything] == [[]] * len(everything)
    assert said(CombinedLogger(*everything[1:])) == []
