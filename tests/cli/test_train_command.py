"""A run from the command line: its files, its end, what a second start does."""

from __future__ import annotations

import json
import shutil

import pytest
from command_line import metrics, parameters, succeeds, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trpo_ts.checkpoints.run_lock import RunLock
from trpo_ts.cli.main import main
from trpo_ts.diagnostics import load_records

SUMMARY = [
    "task",
    "seed",
    "env_steps",
    "wall_seconds",
    "steps_per_second",
    "best_test_return",
    "last_test_return",
    "final_return_mean",
    "max_kl_seen",
    "report",
]
SHORT_EPISODES = ["--task", "CartPole-v1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "cart"
    train(folder, *SHORT_EPISODES, "--seed", 5)
    return folder


def test_the_folder_holds_what_it_should(run):
    files = {path.name for path in run.iterdir()}
    (events,) = {name for name in files if name.startswith("events.out.tfevents.")}
    kept = {"config.json", "metrics.jsonl", "last.ckpt", "previous.ckpt", "best.ckpt", "report.html", "summary.json"}
    assert files == {*kept, events}
    log = EventAccumulator(str(run))
    log.Reload()
    assert [event.step for event in log.Scalars("update/kl/mean")] == [32, 64, 96, 128]


def test_metrics_have_a_line_for_each_update_and_each_test(run):
    assert [(line["kind"], line["env_steps"]) for line in metrics(run)] == [
        ("evaluation", 0),
        ("update", 32),
        ("update", 64),
        ("evaluation", 64),
        ("update", 96),
        ("update", 128),
        ("evaluation", 128),
    ]
    assert all("return_mean" in line for line in metrics(run))
    assert len(load_records(run / "metrics.jsonl")) == 7


def test_the_summary_says_what_the_metrics_say(run):
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary) == SUMMARY
    updates, tests = metrics(run, "update"), metrics(run, "evaluation")
    returns = [r for update in updates for r in update["episode_returns"]]
    assert (summary["task"], summary["seed"], summary["env_steps"]) == ("CartPole-v1", 5, 128)
    assert summary["best_test_return"] == max(test["return_mean"] for test in tests)
    assert summary["last_test_return"] == tests[-1]["return_mean"]
    assert summary["final_return_mean"] == pytest.approx(sum(returns) / len(returns))
    assert summary["max_kl_seen"] == max(update["kl"] for update in updates) <= 0.02
    assert 128 / summary["wall_seconds"] <= summary["steps_per_second"] < 1e6
    assert "CartPole-v1" in (run / summary["report"]).read_text()


def test_the_configuration_is_whole(run):
    config = json.loads((run / "config.json").read_text())
    assert config["preset"] == "classic_control"
    assert config["env_backend"] == "gymnasium"
    assert config["critic_fit"] == "GaussNewtonFit()"
    assert config["hidden_sizes"] == [8]
    assert config["threads"] == 1


def test_it_prints_settings_progress_and_result(tmp_path, capsys):
    train(tmp_path / "run", *SHORT_EPISODES)
    out = capsys.readouterr().out
    for text in ("max_kl=0.02", "hidden_sizes=8", "KL 0.0", " of 0.02", "explained variance", "products", "steps/s"):
        assert text in out, text
    assert out.splitlines()[-1].startswith("128 steps in ")
    assert str(tmp_path / "run" / "report.html") in out


def test_the_same_command_again_changes_nothing_and_more_steps_continue(tmp_path, capsys):
    once, twice = tmp_path / "once", tmp_path / "twice"
    train(once, *SHORT_EPISODES, steps=160)
    train(twice, *SHORT_EPISODES, steps=96)
    before = parameters(twice / "last.ckpt")
    train(twice, *SHORT_EPISODES, steps=96)
    assert parameters(twice / "last.ckpt") == before
    assert len(metrics(twice, "update")) == 3
    capsys.readouterr()
    succeeds("resume", twice, "--steps", 160)
    assert "Resumed from update 3, step 96" in capsys.readouterr().out
    # The end of a run is tested, so that the longer run has one test more, at 96 steps.
    assert metrics(twice, "update") == metrics(once, "update")
    assert parameters(twice / "last.ckpt") == parameters(once / "last.ckpt")


def test_steps_are_rounded_up_to_whole_updates(tmp_path):
    train(tmp_path / "run", steps=33, test_every=1000)
    assert [line["env_steps"] for line in metrics(tmp_path / "run")] == [0, 32, 64, 64]


def test_without_tests_there_is_no_best_checkpoint(tmp_path, capsys):
    train(tmp_path / "run", steps=64, test_every=0)
    assert metrics(tmp_path / "run", "evaluation") == []
    assert not (tmp_path / "run" / "best.ckpt").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best_test_return"] is None
    capsys.readouterr()
    succeeds("evaluate", tmp_path / "run", "--episodes", 3)
    assert "last.ckpt: mean return -" in capsys.readouterr().out


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path, monkeypatch, capsys):
    train(tmp_path / "run", steps=32, test_every=0)
    lock = RunLock(tmp_path / "run")
    lock.acquire()
    (tmp_path / "run" / "run.lock").write_text(
        (tmp_path / "run" / "run.lock").read_text().replace('"pid": ', '"pid": 1, "own": ')
    )
    monkeypatch.setattr("trpo_ts.checkpoints.run_lock._started", lambda pid: lock._me.started)
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert "is in use by process 1" in capsys.readouterr().err


def test_what_a_run_left_before_its_first_checkpoint_is_written_anew(tmp_path):
    train(tmp_path / "run", steps=32)
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / "run" / name).unlink()
    train(tmp_path / "run", steps=32)
    assert [line["env_steps"] for line in metrics(tmp_path / "run")] == [0, 32, 32]
    assert len(list((tmp_path / "run").glob("events.*"))) == 1


def test_a_process_that_was_killed_before_there_was_a_run_is_no_obstacle(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.lock").write_text("")
    for name in ("config.json", "report.html"):
        (folder / f".{name}.{'0' * 32}.tmp").write_text("{")
    train(folder, steps=32)
    assert not list(folder.glob(".*"))


def test_a_report_of_a_run_whose_last_line_is_unfinished(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "upd')
    succeeds("report", folder)
    assert "4 updates of trpo_ts.TRPO" in (folder / "report.html").read_text()


def test_the_folder_is_named_after_task_and_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    succeeds("train", "--seed", 3, "--steps", 32, "--num-envs", 2, "--segment", 16, "--test-every", 0)
    assert (tmp_path / "runs" / "PointMass1D-v0" / "seed_3" / "summary.json").exists()


def test_the_report_is_written_anew_from_the_metrics(run, capsys):
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    capsys.readouterr()
    succeeds("report", run)
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text() == before


def test_an_error_of_the_task_is_shown_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        train(tmp_path / "run", "--task", "little_tasks:FailingTask-v0", "--no-normalise-observations")
