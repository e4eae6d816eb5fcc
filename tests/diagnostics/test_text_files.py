"""Text files that are wholly written."""

from __future__ import annotations

import json
import math
import os
import re

import numpy as np
import pytest

from trpo_ts.diagnostics import write_json, write_report


def test_writing_leaves_no_temporary_file_and_the_usual_permissions(tmp_path):
    path = write_report(tmp_path / "report.html", {}, {}, title="", description="")
    (tmp_path / "usual").touch()
    assert sorted(os.listdir(tmp_path)) == ["report.html", "usual"]
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_write_json(tmp_path):
    path = write_json(
        tmp_path / "folder" / "summary.json",
        {"a": np.float32(0.5), "b": [np.int64(1), (2.0, None)], "c": {"d": np.array([True])}, "e": "é"},
    )
    expected = {"a": 0.5, "b": [1, [2.0, None]], "c": {"d": [True]}, "e": "é"}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert os.listdir(tmp_path / "folder") == ["summary.json"]


@pytest.mark.parametrize(
    ("mapping", "error", "said"),
    [
        ({"a": {"b": [0.0, math.nan]}}, ValueError, "mapping['a']['b'][1] is nan"),
        ({"a": np.array([1.0, -np.inf])}, ValueError, "mapping['a'][1] is -inf"),
        ({"a": object()}, TypeError, "mapping['a'] is of type object"),
        ({"a": {1: 2}}, TypeError, "mapping['a'] has the key 1"),
    ],
)
def test_write_json_refuses_what_json_lacks(tmp_path, mapping, error, said):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(error, match=re.escape(said)):
        write_json(path, mapping)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]
