"""The updates are the recorded ones, to more digits than any change of the mathematics would leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recorded_updates import CASES, record, recorded

RECORDED = recorded()
TOLERANCE = 1e-10


@pytest.mark.parametrize("name", CASES)
def test_an_update_is_the_recorded_one(name: str):
    expected, found = RECORDED[name], record(CASES[name])
    for number, (digests, wanted) in enumerate(zip(found["digests"], expected["digests"], strict=True)):
        check(digests, wanted, f"the networks after {number} updates")
    for number, values in expected["stats"].items():
        check(found["stats"][number], values, number)
    for network in ("policy", "critic"):
        check(found[network], expected[network], f"the {network} in the end")


def check(found: Any, expected: Any, what: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


def test_every_case_is_recorded():
    assert list(RECORDED) == list(CASES)


def test_most_of_the_recorded_steps_are_accepted_and_some_are_not():
    outcomes = [outcome for case in RECORDED.values() for outcome in case["stats"]["outcome"]]
    assert 0.9 < outcomes.count(0.0) / len(outcomes) < 1.0
