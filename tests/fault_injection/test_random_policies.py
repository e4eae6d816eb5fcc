"""Random policies judged from outside: a few here, many in random_policies.py."""

from __future__ import annotations

import pytest
import random_policies
import torch
from random_distributions import FAMILIES
from random_networks import BODIES
from random_policies import FAULTS, PolicyCase, broken, run, run_one

from trpo_ts import NPG, TRPO, npg

QUICK, SLOW = range(5000, 5060), range(6000, 6500)
"""Neither range is among those of the benchmark."""


def test_nothing_breaks():
    assert [broken(result) for result in run(QUICK) if broken(result)] == []


@pytest.mark.slow
def test_nothing_breaks_in_many_cases():
    results = run(SLOW)
    assert [broken(result) for result in results if broken(result)] == []
    assert sum(result.get("accepted", 0) for result in results) >= 500
    assert sum(result.get("refusals", 0) for result in results) >= 80


def test_every_network_distribution_and_fault_is_met():
    cases = [PolicyCase(number) for number in range(2000)]
    assert {case.family for case in cases} == set(FAMILIES)
    assert {case.body for case in cases} == {case.critic_body for case in cases} == set(BODIES)
    assert {case.fault for case in cases} == {None, *FAULTS}


def test_a_case_is_the_same_each_time():
    states = []
    for _ in range(2):
        case = PolicyCase(7, fault=None)
        case.build()
        random_policies.judge(case)
        states.append(random_policies.learned(case))
    assert states[0] == states[1]


PLAIN = {"fault": None, "family": "normal", "body": "tanh", "critic_body": "tanh", "updates": 1, "dtype": torch.float64}


def plain(count: int = 8) -> dict[str, int]:
    results = [run_one(number, **PLAIN) for number in range(count)]
    return {name: sum(result.get(name, 0) for result in results) for name in random_policies.COUNTS}


def test_the_harness_sees_a_bound_that_does_not_hold(monkeypatch: pytest.MonkeyPatch):
    step = TRPO._policy_step

    def too_far(self, *args):
        self.max_kl *= 3.0
        try:
            return step(self, *args)
        finally:
            self.max_kl /= 3.0

    monkeypatch.setattr(TRPO, "_policy_step", too_far)
    assert plain()["kl_above_bound"] > 0


def test_the_harness_sees_a_policy_that_moves_although_its_step_was_rejected(monkeypatch: pytest.MonkeyPatch):
    fit = NPG._fit_critic

    def moving(self, rollout, batch_size):
        with torch.no_grad():
            next(self.policy.parameters()).add_(1e-3)
        return fit(self, rollout, batch_size)

    monkeypatch.setattr(NPG, "_fit_critic", moving)
    monkeypatch.setattr(npg, "_may_move_otherwise", lambda policy: False)
    counts = plain()
    assert counts["kl_not_stats"] + counts["moved_when_rejected"] > 4


def test_the_harness_sees_side_effects(monkeypatch: pytest.MonkeyPatch):
    update = TRPO.update

    def drawing(self, *args):
        torch.rand(1)
        self.critic.last.train(not self.critic.last.training)
        return update(self, *args)

    monkeypatch.setattr(TRPO, "update", drawing)
    assert plain(4)["changed"] == 4


def test_the_harness_sees_a_refusal_of_what_tianshou_trains(monkeypatch: pytest.MonkeyPatch):
    def refusing(self, *args):
        raise ValueError("policy is not liked")

    monkeypatch.setattr(TRPO, "update", refusing)
    assert plain(4)["refused"] > 0


def test_the_table_adds_up():
    results = [
        {"case": 0, "fault": "none", "updates": 3},
        {"case": 1, "fault": "failing fit", "refusals": 1, "errors": 2},
    ]
    rows = [row.split(" | ") for row in random_policies.table(results).splitlines()]
    assert rows[2] == ["| cases", "1", "1", "2 |"]
    assert rows[3] == ["| updates", "3", "0", "3 |"]
    assert rows[-1] == ["| **other errors**", "0", "2", "2 |"]
