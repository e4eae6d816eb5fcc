"""Runs that are killed or stopped at any moment end, once continued, on the same bits as runs that were not."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from command_line import fork, metrics, parameters, start, succeeds, train, wait_for

from trpo_ts.cli.main import main
from trpo_ts.cli.stop_signals import StopSignals
from trpo_ts.collectors import RolloutCollector

STEPS = 4096
POINT_MASS = ["--steps", STEPS, "--num-envs", 4, "--segment", 32, "--hidden-sizes", 8, "--test-episodes", 2]


def words(folder, *more):
    return ["train", "--out", folder, "--test-every", 1024, "--seed", 3, *POINT_MASS, *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    succeeds(*words(folder))
    return folder


def test_a_run_that_is_killed_twice_ends_on_the_same_bits(tmp_path, whole):
    folder = tmp_path / "run"
    for updates in (3, 17):
        process = fork(*words(folder, "--save-every", 0.05))
        wait_for(process, folder, updates)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert len(metrics(folder, "update")) < STEPS // 128
    succeeds(*words(folder))
    assert parameters(folder / "last.ckpt") == parameters(whole / "last.ckpt")
    assert parameters(folder / "best.ckpt") == parameters(whole / "best.ckpt")
    assert metrics(folder) == metrics(whole)


def test_a_signal_saves_and_says_how_to_continue(tmp_path, whole):
    folder = tmp_path / "run"
    process = start(*words(folder, "--save-every", 1000))
    wait_for(process, folder, 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    stopped = re.search(r"stopped; saved up to step ([\d,]+) in (.*)\n", out)
    assert int(stopped[1].replace(",", "")) == metrics(folder, "update")[-1]["env_steps"]
    assert stopped[2] == str(folder / "last.ckpt")
    assert out.endswith(f"to continue, type: trpo-ts resume {folder}\n")
    succeeds("resume", folder)
    assert parameters(folder / "last.ckpt") == parameters(whole / "last.ckpt")
    assert metrics(folder) == metrics(whole)


@pytest.mark.parametrize("task", ["RepeatPrevious-v0", "Pendulum-v1", "little_tasks:DictTask-v0", "Catch-v0"])
def test_a_run_that_stops_after_every_update_ends_on_the_same_bits(task, tmp_path, monkeypatch):
    """With a memory, with statistics of observations, with Dicts, with images."""
    monkeypatch.setattr("trpo_ts.cli.train_command.write_run_report", lambda *args: None)
    train(tmp_path / "once", "--task", task)
    collected = []
    collect = RolloutCollector.collect
    monkeypatch.setattr(
        RolloutCollector, "collect", lambda *a, **k: collected.append(k.get("n_step")) or collect(*a, **k)
    )
    monkeypatch.setattr(StopSignals, "stop", property(lambda self: any(collected)))
    codes = []
    while not codes or codes[-1]:
        collected.clear()
        arguments = ["--out", tmp_path / "often", "--steps", 128, "--test-every", 64, "--task", task]
        tiny = ["--num-envs", 2, "--segment", 16, "--hidden-sizes", 8, "--test-episodes", 2]
        codes.append(main([str(word) for word in ["train", *arguments, *tiny]]))
    assert codes == [130, 130, 130, 0]
    assert metrics(tmp_path / "often") == metrics(tmp_path / "once")
    assert parameters(tmp_path / "often" / "last.ckpt") == parameters(tmp_path / "once" / "last.ckpt")


def test_the_second_signal_stops_at_once():
    signals = StopSignals()
    with signals.noted():
        assert not signals.stop
        signal.raise_signal(signal.SIGTERM)
        assert signals.stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_run_stops_when_the_process_that_started_it_is_gone():
    assert not StopSignals(parent=os.getppid()).stop
    assert StopSignals(parent=os.getppid() + 1).stop


def test_a_run_that_is_stopped_before_its_first_update_is_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(StopSignals, "stop", True)
    folder = Path(tmp_path / "run")
    assert main(["train", "--out", str(folder), "--steps", "64", "--num-envs", "2", "--segment", "16"]) == 130
    assert "saved up to step 0 " in capsys.readouterr().out
    assert (folder / "last.ckpt").exists()
