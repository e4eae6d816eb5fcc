"""Random trainings, disturbed in every way that fault_injection.py knows: a few here, a thousand in reliability.py."""

from __future__ import annotations

import os
from pathlib import Path

import fault_injection
import numpy as np
import pytest
import reliability
from random_trainings import ACTIONS, OBSERVATIONS, Case, RandomTask

from trpo_ts import TRPO
from trpo_ts.checkpoints import checkpoint, checkpoint_files

QUICK, SLOW = range(2000, 2020), range(3000, 3300)
"""Twenty cases in a row meet every kind of disturbance; neither range is among those of the benchmark."""


def broken(result):
    return {name: result[name] for name in (*fault_injection.MUST_BE_ZERO, "error") if result.get(name)}


@pytest.mark.parametrize("number", QUICK)
def test_nothing_breaks(number):
    assert broken(fault_injection.run(number)) == {}


@pytest.mark.slow
def test_nothing_breaks_in_many_cases_and_at_fifty_kills():
    results = [fault_injection.run(number) for number in SLOW]
    assert [broken(result) for result in results if broken(result)] == []
    assert sum(result.get("kills", 0) for result in results) >= 40
    assert sum(result.get("updates", 0) for result in results) >= 600


def test_every_space_and_kind_is_met():
    cases = [Case(number) for number in range(reliability.CASES)]
    assert {case.observation for case in cases} == set(OBSERVATIONS)
    assert {case.action for case in cases} == set(ACTIONS)
    assert sum(share for _, share in fault_injection.KINDS) == 20


def test_a_case_is_the_same_each_time(tmp_path):
    states = []
    for folder in ("first", "second"):
        trainer, _ = Case(5).build(tmp_path / folder)
        trainer.run()
        states.append(fault_injection._state(trainer))
    assert states[0] == states[1]


def of_kind(kind, numbers):
    offset = 0
    for candidate, share in fault_injection.KINDS:
        if candidate is kind:
            return [number for number in numbers if offset <= number % 20 < offset + share]
        offset += share
    raise AssertionError(kind)


def counted(kind, name, numbers=range(40)):
    return sum(fault_injection.run(number).get(name, 0) for number in of_kind(kind, numbers))


def test_the_harness_sees_a_bound_that_does_not_hold(monkeypatch):
    step = TRPO._policy_step

    def too_far(self, *args):
        self.max_kl *= 3.0
        try:
            return step(self, *args)
        finally:
            self.max_kl /= 3.0

    monkeypatch.setattr(TRPO, "_policy_step", too_far)
    assert counted(fault_injection.undisturbed, "kl_violations", range(10)) > 0


def test_the_harness_sees_a_generator_that_is_not_restored(monkeypatch):
    monkeypatch.setattr(checkpoint, "set_generator_states", lambda states: None)
    assert counted(fault_injection.full_disk, "unequal") > 0


def test_the_harness_sees_damage_that_goes_through(monkeypatch):
    monkeypatch.setattr(checkpoint_files, "_digest", lambda version, content: b"0" * 32)
    assert counted(fault_injection.damaged_checkpoint, "corrupt", range(60)) > 0


def test_the_harness_sees_files_that_are_written_in_place(monkeypatch):
    def in_place(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            os.fsync(file.fileno())
            file.write(content[len(content) // 2 :])
        return path

    monkeypatch.setattr(checkpoint_files, "atomic_write", lambda path, content: in_place(_with_folder(path), content))
    assert counted(fault_injection.full_disk, "corrupt", range(60)) > 0


def _with_folder(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_harness_sees_a_fault_that_nobody_saw(monkeypatch):
    monkeypatch.setattr(RandomTask, "_due", lambda self, what: False)
    assert counted(fault_injection.failing_environment, "unseen", range(20)) == 4


def test_the_table_adds_up():
    results = [
        {"case": 0, "kind": "undisturbed", "updates": 3},
        {"case": 18, "kind": "full_disk", "updates": 2, "corrupt": 1},
    ]
    rows = [row.split(" | ") for row in reliability.table(results).splitlines()]
    assert rows[2] == ["| cases", "1", "0", "0", "0", "1", "2 |"]
    assert rows[3] == ["| updates", "3", "0", "0", "0", "2", "5 |"]
    assert rows[7] == ["| **corrupt checkpoints**", "0", "0", "0", "0", "1", "1 |"]
    assert np.prod([len(row) for row in rows]) == 7 ** len(rows)
