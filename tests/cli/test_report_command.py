"""``trpo-ts report``: one run, several, a run that was resumed, what cannot be done."""

from __future__ import annotations

import base64
import json
import re
import shutil

import numpy as np
import pytest
from command_line import metrics, succeeds, train
from synthetic_runs import write_run

from trpo_ts.cli.main import main


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Return a folder, the present one, with the runs of three seeds, of one that has not begun, and another."""
    for seed in (0, 1, 10):
        write_run(tmp_path / "all" / f"seed_{seed}", seed=seed)
    write_run(tmp_path / "all" / "seed_11", seed=11)
    (tmp_path / "all" / "seed_11" / "metrics.jsonl").unlink()
    write_run(tmp_path / "other", max_kl=0.05)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(path):
    (text,) = re.findall(r'<script type="application/json" id="contents">(.*)</script>', path.read_text())
    return {chart["id"]: chart for chart in json.loads(text)["charts"]}


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype="<f4").tolist()


def test_the_folder_of_several_seeds_is_one_page_in_it(runs, capsys):
    succeeds("report", "all")
    out, err = capsys.readouterr()
    assert out == "all/report.html\n"
    assert err == "trpo-ts: all/seed_11 has no metrics yet and is left out\n"
    page = (runs / "all" / "report.html").read_text()
    names = re.findall(r"<th scope=\"row\"><svg.*?</svg> (.*?)</th>", page)
    assert names == ["seed_0", "seed_1", "seed_10", "mean of CartPole-v1"]
    names = [
        trace["name"] for trace in contents(runs / "all" / "report.html")["chart-return"]["data"] if "name" in trace
    ]
    assert names == ["seed_0", "seed_1", "seed_10", "mean of CartPole-v1"]


def test_runs_with_other_settings_are_another_group(runs, capsys):
    succeeds("report", "all/seed_0", "all/seed_1", "all/seed_1", "other")
    assert capsys.readouterr().out == "report.html\n"
    page = (runs / "report.html").read_text()
    assert "max_kl 0.02 (2 seeds)" in page
    assert "max_kl 0.05" in page
    assert "3 runs of trpo_ts.TRPO" in page
    levels = [
        trace["name"] for trace in contents(runs / "report.html")["chart-kl"]["data"] if "max_kl =" in trace["name"]
    ]
    assert levels == ["max_kl = 0.02", "max_kl = 0.05"]
    assert len(page) <= 1_500_000


def test_the_file_is_where_out_says(runs, capsys):
    succeeds("report", "other", "--out", "pages/here.html")
    assert capsys.readouterr().out == "pages/here.html\n"
    page = (runs / "pages" / "here.html").read_text()
    assert "12 updates of trpo_ts.TRPO, seed 0" in page
    for text in ("Settings", "cg_damping", "Versions", "torch", "The KL budget is not used"):
        assert text in page


def test_a_resumed_run_keeps_its_whole_history(tmp_path):
    train(tmp_path / "run", steps=64)
    succeeds("resume", tmp_path / "run", "--steps", 160)
    charts = contents(tmp_path / "run" / "report.html")
    steps = [32, 64, 96, 128, 160]
    for key in ("kl", "time", "speed", "explained_variance", "surrogate"):
        for trace in charts[f"chart-{key}"]["data"]:
            if trace["name"] != "max_kl = 0.02":
                assert numbers(trace["x"]) == steps, key
    (kl, _) = charts["chart-kl"]["data"]
    np.testing.assert_allclose(
        numbers(kl["y"]), [line["kl"] for line in metrics(tmp_path / "run", "update")], rtol=1e-6
    )


def wrong(*words, capsys):
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trpo-ts: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("", "type trpo-ts report and the folder"),
        ("nowhere", "nowhere holds no run; type"),
        ("other/config.json", "config.json holds no run; type"),
        ("pages", "pages holds no run; type"),
        ("all/seed_11", "type trpo-ts resume all/seed_11"),
        ("other --live --out f.html", "type either --live or --out"),
        ("other --port 80", "type --live too"),
        ("other --live --port -1", "--port must be an integer >= 0"),
        ("other --live --port 65536", "--port must be at most 65535"),
        ("other --live --port many", "write --port"),
        ("other --out all", "type all/report.html"),
        ("other --out other/config.json/f.html", "other/config.json"),
    ],
)
def test_what_cannot_be_done_is_one_line(runs, words, part, capsys):
    (runs / "pages").mkdir()
    before = sorted(runs.rglob("*"))
    assert part in wrong("report", *words.split(), capsys=capsys)
    assert sorted(runs.rglob("*")) == before


def test_a_corrupt_line_is_named_and_resume_writes_the_file_anew(tmp_path, capsys):
    folder = tmp_path / "run"
    train(folder, steps=64)
    whole = metrics(folder)
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.replace('"kl": ', '"kl": x', 1))
    shutil.copytree(folder, tmp_path / "copy")
    capsys.readouterr()
    error = wrong("report", str(folder), capsys=capsys)
    assert "metrics.jsonl, line 2: " in error
    assert f"type trpo-ts resume {folder}" in error
    succeeds("resume", folder)
    succeeds("report", folder)
    assert metrics(folder) == whole


def test_a_bound_that_moves_is_drawn_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        train(tmp_path / f"seed_{seed}", "--seed", seed, "--max-kl", "LinearSchedule(start=0.04, end=0.0)")
    bounds = [update["max_kl"] for update in metrics(tmp_path / "seed_0", "update")]
    assert bounds == sorted(set(bounds), reverse=True)
    page = tmp_path / "seed_0" / "report.html"
    assert f"bound 0.04 to {bounds[-1]:.3g}" in page.read_text()
    succeeds("report", "seed_0", "seed_1")
    for path in (page, tmp_path / "report.html"):
        (drawn,) = (trace for trace in contents(path)["chart-kl"]["data"] if trace["name"] == "max_kl")
        np.testing.assert_allclose(numbers(drawn["y"]), bounds, rtol=1e-6)
