"""JSON lines: a line for each update and each test, none twice, none lost."""

from __future__ import annotations

import pytest
from resumable import run_until, trainer_of
from runs import ROLLOUT, STEPS, UPDATES, make_run

from trpo_ts.diagnostics import EvaluationRecord, TrainingRecorder, UpdateRecord, load_records
from trpo_ts.loggers import JsonLinesLogger


def env_steps(path, kind):
    return [record.env_steps for record in load_records(path) if isinstance(record, kind)]


def test_the_file_holds_the_records_in_their_order(tmp_path):
    logger = JsonLinesLogger(tmp_path / "new" / "metrics.jsonl")
    algorithm, params = make_run(logger=logger)
    algorithm.run_training(params)
    records = load_records(logger.path)
    assert [record for record in records if isinstance(record, UpdateRecord)] == logger.updates
    assert [record for record in records if isinstance(record, EvaluationRecord)] == logger.tests
    assert [type(record) for record in records] == [EvaluationRecord, *[*[UpdateRecord] * 3, EvaluationRecord] * 2]


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_resumed_run_has_each_line_once(tmp_path, stop_after):
    path = tmp_path / "metrics.jsonl"
    run_until(tmp_path / "run", stop_after, every=2, logger=JsonLinesLogger(path))
    with open(path, "a") as file:
        file.write('{"kind": "upd')  # a process was killed while it wrote
    trainer_of(tmp_path / "run", every=2, logger=JsonLinesLogger(path)).run()
    assert env_steps(path, UpdateRecord) == [ROLLOUT * n for n in range(1, UPDATES + 1)]
    assert env_steps(path, EvaluationRecord) == [0, STEPS, 2 * STEPS]
    assert list(tmp_path.glob("*.jsonl")) == [path]


def test_another_run_puts_the_file_aside_and_says_so(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for content in ("first\n", "second\n"):
        path.write_text(content)
        with pytest.warns(UserWarning, match=r"held the records of another run, which are now in .*metrics\.\d\.jsonl"):
            JsonLinesLogger(path).log_test_data({"returns": [1.0]}, 0)
    assert [(tmp_path / f"metrics.{n}.jsonl").read_text() for n in (1, 2)] == ["first\n", "second\n"]
    assert env_steps(path, EvaluationRecord) == [0]


def test_a_run_that_was_saved_without_records_loses_no_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("mine\n")
    run_until(tmp_path / "run", 4)
    with pytest.warns(UserWarning, match="records of another run"):
        trainer_of(tmp_path / "run", logger=JsonLinesLogger(path)).run()
    assert (tmp_path / "metrics.1.jsonl").read_text() == "mine\n"
    assert env_steps(path, UpdateRecord) == [5 * ROLLOUT, 6 * ROLLOUT]


def test_it_passes_on_to_a_further_logger(tmp_path):
    inner = TrainingRecorder()
    algorithm, params = make_run(logger=JsonLinesLogger(tmp_path / "a.jsonl", inner))
    algorithm.run_training(params)
    assert len(inner.updates) == UPDATES
