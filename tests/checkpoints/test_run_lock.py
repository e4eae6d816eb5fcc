"""One process at a time writes to a run's folder; that of a dead one is free."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import threading
import time

import pytest
from resumable import checkpoints, trainer_of
from runs import UPDATES, bits

from trpo_ts.checkpoints import run_lock
from trpo_ts.checkpoints.run_lock import RunLock

FORK = multiprocessing.get_context("fork")


class Holder:
    """A process that runs in a folder and stops before its third update, for as long as it is wanted."""

    def __init__(self, folder):
        self.stopped, self.go = FORK.Event(), FORK.Event()
        self.process = FORK.Process(target=self._run, args=(folder,))
        self.process.start()
        assert self.stopped.wait(60.0)

    def _run(self, folder):
        trainer = trainer_of(folder)
        steps = []

        def training_fn(epoch, env_step):
            steps.append(env_step)
            if len(steps) == 3:
                self.stopped.set()
                self.go.wait(60.0)

        trainer.params.training_fn = training_fn
        trainer.run()


@pytest.fixture
def holder(tmp_path):
    holder = Holder(tmp_path)
    yield holder
    holder.process.kill()
    holder.process.join()


def test_a_second_start_is_refused_and_the_first_one_ends_as_if_alone(tmp_path, whole, holder):
    temporary = tmp_path / f".update_000003.ckpt.{'0123' * 8}.tmp"
    temporary.write_bytes(b"the first one writes to it")
    second = trainer_of(tmp_path)
    said = f"{re.escape(str(tmp_path))} is in use by process {holder.process.pid} on {socket.gethostname()}; wait for"
    for call in (second.run, second.reset, second.execute_epoch):
        with pytest.raises(RuntimeError, match=said):
            call()
    assert temporary.read_bytes() == b"the first one writes to it"
    holder.go.set()
    holder.process.join()
    assert checkpoints(tmp_path)[-1] == f"update_{UPDATES:06d}.ckpt"
    third = trainer_of(tmp_path, seed=5)
    third.run()
    assert bits(dict(third.algorithm.state_dict())) == bits(dict(whole[1].algorithm.state_dict()))


def test_the_folder_of_a_process_that_was_killed_is_free(tmp_path, whole, holder):
    os.kill(holder.process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.process.pid, os.WEXITED | os.WNOWAIT)
    resumed = None
    for _ in range(2):  # first the process is dead and not yet reaped
        resumed = trainer_of(tmp_path, seed=5)
        resumed.reset()
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
        holder.process.join()
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(whole[1].algorithm.state_dict()))
    assert not (tmp_path / "run.lock").exists()


def test_a_run_that_ends_or_fails_gives_the_folder_back(tmp_path):
    class FailedError(Exception):
        pass

    def fail(epoch, env_step):
        raise FailedError

    trainer = trainer_of(tmp_path)
    trainer.params.training_fn = fail
    with pytest.raises(FailedError):
        trainer.run()
    assert not (tmp_path / "run.lock").exists()
    trainer.params.training_fn = lambda epoch, env_step: None
    trainer.run()
    assert not (tmp_path / "run.lock").exists()
    trainer.execute_epoch()
    assert (tmp_path / "run.lock").exists()
    del trainer
    assert not (tmp_path / "run.lock").exists()


def written(folder, **changes):
    """Write a lock of this process with other entries."""
    lock = RunLock(folder)
    lock.acquire()
    fields = json.loads((folder / "run.lock").read_text()) | changes
    lock.release()
    (folder / "run.lock").write_text(json.dumps(fields))
    return RunLock(folder)


@pytest.mark.parametrize("changes", [{"started": "1"}, {"pid": 2**22 + 1}], ids=str)
def test_another_process_of_the_same_number_is_not_the_holder(tmp_path, changes):
    written(tmp_path, **changes).acquire()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "null"])
def test_a_lock_that_was_written_by_half_holds_nothing(tmp_path, content):
    (tmp_path / "run.lock").write_text(content)
    RunLock(tmp_path).acquire()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"machine": "another container"}], ids=str)
def test_a_process_elsewhere_that_gives_no_sign_of_life_is_dead(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 0.3)
    lock = written(tmp_path, **changes)
    with pytest.warns(RuntimeWarning, match=f"was in use by process {os.getpid()} on .*, which seems to be dead"):
        lock.acquire()


def test_a_process_elsewhere_that_gives_a_sign_of_life_has_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 5.0)
    lock = written(tmp_path, host="elsewhere")
    end = threading.Event()

    def beat():
        while not end.wait(0.05):
            os.utime(tmp_path / "run.lock")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match=f"is in use by process {os.getpid()} on elsewhere"):
            lock.acquire()
    finally:
        end.set()
        thread.join()


def test_every_training_step_is_a_sign_of_life(tmp_path):
    trainer = trainer_of(tmp_path)
    times = []

    def training_fn(epoch, env_step):
        times.append(os.stat(tmp_path / "run.lock").st_mtime_ns)
        time.sleep(0.02)

    trainer.params.training_fn = training_fn
    trainer.run()
    assert len(set(times)) == UPDATES


def test_a_forked_process_does_not_give_its_parents_lock_back(tmp_path):
    lock = RunLock(tmp_path)
    lock.acquire()
    child = FORK.Process(target=lock.release)
    child.start()
    child.join()
    assert (tmp_path / "run.lock").exists()
    lock.release()
    assert not (tmp_path / "run.lock").exists()


def test_of_many_processes_that_start_at_once_one_gets_the_folder(tmp_path):
    results, start, end = FORK.SimpleQueue(), FORK.Event(), FORK.Event()

    def contend():
        lock = RunLock(tmp_path)
        start.wait()
        try:
            lock.acquire()
            results.put("taken")
        except RuntimeError:
            results.put("refused")
        end.wait()

    children = [FORK.Process(target=contend) for _ in range(8)]
    for child in children:
        child.start()
    start.set()
    outcomes = sorted(results.get() for _ in children)
    end.set()
    for child in children:
        child.join()
    assert outcomes == ["refused"] * 7 + ["taken"]
