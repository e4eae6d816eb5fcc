"""Records in a file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from recorded import ROLLOUT, SNAPSHOTS

from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, load_records, save_records
from trpo_ts.diagnostics.storage import record_line


def test_records_survive_a_round_trip_through_a_file(tmp_path):
    records = [
        UpdateRecord(1, 1024),
        UpdateRecord(np.int64(2), 2048, (1.0, -2.5e-300), kl=np.float32(0.1), accepted=1.0, train_time=1e-3),
        EvaluationRecord(2048, (3.0,)),
        ROLLOUT,
        *SNAPSHOTS,
    ]
    path = save_records(tmp_path / "new" / "folder" / "records.jsonl", iter(records))
    assert load_records(path) == records
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert load_records(save_records(path, [])) == []


def test_lines_of_updates_and_tests_hold_the_mean_return_for_other_readers():
    records = [UpdateRecord(1, 8, (1.0, 2.0)), UpdateRecord(2, 16), EvaluationRecord(16, (3.0,)), *SNAPSHOTS[:1]]
    lines = [json.loads(record_line(record)) for record in records]
    assert [line.get("return_mean", "none at all") for line in lines] == [1.5, None, 3.0, "none at all"]


GOOD = '{"kind": "update", "iteration": 1, "env_steps": 10}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "Expecting value"),
        ("{", "line 2"),
        ("[]", "JSON object"),
        ("{}", "kind"),
        ('{"kind": ["update"]}', "kind"),
        ('{"kind": "updates", "iteration": 1, "env_steps": 10}', "kind must be one of update"),
        ('{"kind": "update", "iteration": 1}', "env_steps"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "k": 1}', "'k'"),
        ('{"kind": "update", "iteration": true, "env_steps": 10}', "iteration"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "env_steps": 11}', "twice"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "kl": NaN}', "NaN is not JSON"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "kl": 1e999}', "kl"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "kl": 1' + "0" * 400 + "}", "kl must be a number"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "kl": "0.1"}', "kl"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "episode_returns": 3}', "episode_returns"),
        ('{"kind": "update", "iteration": 1, "env_steps": 10, "episode_returns": [[1]]}', "episode_returns"),
    ],
)
def test_a_malformed_file_is_an_error_with_its_line(tmp_path, line, said):
    path = tmp_path / "records.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_records(path)
    assert f"{path}, line 2: " in str(caught.value)


@pytest.mark.parametrize("end", ["", '{"kind": "upd', GOOD])
def test_an_unfinished_line_is_left_out_where_it_may_be(tmp_path, end):
    path = tmp_path / "records.jsonl"
    path.write_text(f"{GOOD}\n{GOOD}\n{end}")
    assert load_records(path, unfinished=True) == [UpdateRecord(1, 10)] * 2
    path.write_text(end)
    assert load_records(path, unfinished=True) == []


def test_a_binary_file_is_a_clear_error(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_records(path)
