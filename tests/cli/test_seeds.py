"""Several seeds: as each alone, in folders of their own, with a summary."""

from __future__ import annotations

import json

from command_line import fork, metrics, parameters, succeeds, train, wait_for

from trpo_ts.cli.main import main

SMALL = ["--num-envs", 2, "--segment", 16, "--hidden-sizes", 8, "--test-episodes", 2]


def test_seeds_in_parallel_equal_seeds_alone(tmp_path, capfd):
    succeeds(
        "train",
        "--out",
        tmp_path / "all",
        "--steps",
        64,
        "--test-every",
        64,
        *SMALL,
        "--seed",
        4,
        "--seeds",
        2,
        "--jobs",
        2,
    )
    out = capfd.readouterr().out
    assert "[seed 4] " in out
    assert "[seed 5] " in out
    train(tmp_path / "alone", "--seed", 4, steps=64)
    assert parameters(tmp_path / "all" / "seed_4" / "last.ckpt") == parameters(tmp_path / "alone" / "last.ckpt")
    assert metrics(tmp_path / "all" / "seed_4") == metrics(tmp_path / "alone") != metrics(tmp_path / "all" / "seed_5")
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    own = [json.loads((tmp_path / "all" / f"seed_{n}" / "summary.json").read_text()) for n in (4, 5)]
    assert (summary["task"], summary["seeds"]) == ("PointMass1D-v0", [4, 5])
    assert summary["last_test_return"]["values"] == [run["last_test_return"] for run in own]
    assert f"{summary['last_test_return']['mean']:.2f} +- " in out
    page = (tmp_path / "all" / "report.html").read_text()
    assert "PointMass1D-v0 (2 seeds)" in page
    assert f"report: {tmp_path / 'all' / 'report.html'}\n" in out


def test_a_seed_whose_folder_has_another_run_is_refused_before_any_begins(tmp_path, capsys):
    train(tmp_path / "all" / "seed_1", "--seed", 1, steps=32, test_every=0)
    words = ["train", "--out", tmp_path / "all", "--steps", 64, "--max-kl", 0.5, "--seeds", 2]
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    assert "seed_1 holds a run with other settings" in capsys.readouterr().err
    assert not (tmp_path / "all" / "seed_0").exists()


def test_a_signal_stops_all_seeds_and_the_same_command_continues(tmp_path, capfd):
    words = ["train", "--out", tmp_path, "--steps", 100_000, "--test-every", 0, *SMALL, "--seeds", 3, "--jobs", 2]
    process = fork(*words)
    try:
        for n in (0, 1):
            wait_for(process, tmp_path / f"seed_{n}", 1)
    finally:
        process.terminate()
        process.join(120)
    assert process.exitcode == 130
    assert capfd.readouterr().out.count("stopped; saved up to step") == 2
    assert not (tmp_path / "seed_2").exists()
    assert not list(tmp_path.glob("*/run.lock"))
