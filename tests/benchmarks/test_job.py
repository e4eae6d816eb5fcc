"""The tables of whole trainings are those of the committed data, and every side trains."""

from __future__ import annotations

from importlib.util import find_spec

import common
import job
import pytest
from jobs.cases import EVERY, GYMNASIUM, IN_PROCESS, OURS, OURS_BUFFERED, SB3, TIANSHOU, Case
from jobs.documents import growth_figure, jobs_figure, ratio, summary, tables
from repository import between_markers


def test_the_tables_are_those_of_the_data():
    for name, text in tables(common.load("job")).items():
        assert between_markers("docs/benchmarks.md", name) == text
    assert between_markers("README.md", "job") == summary(common.load("job"))


def test_a_whole_training_is_as_much_faster_as_is_said():
    cases = common.load("job")["cases"]
    in_parallel = cases["HalfCheetah-v4 16x64"]
    assert ratio(in_parallel, OURS, TIANSHOU) >= 2.0
    assert ratio(in_parallel, OURS, SB3) >= 1.5
    assert ratio(in_parallel, OURS_BUFFERED, TIANSHOU) >= 3.0
    assert ratio(cases["HalfCheetah-v4 2x1024"], OURS, SB3) >= 2.0


@pytest.mark.parametrize("case", [Case("CartPole-v1", 2, 16), Case("Catch-v0", 2, 2, IN_PROCESS)], ids=lambda c: c.task)
def test_every_side_trains_and_every_simulator_steps(case):
    sides = tuple(side for side in case.sides if side != SB3 or find_spec("sb3_contrib"))
    simulators = case.simulators if case.sides == EVERY else (GYMNASIUM,)
    quick = Case(case.task, case.envs, case.segment, sides, simulators, updates_per_turn=1, rounds=1)
    found = job.compare(quick)
    assert set(found["turns"]) == set(sides)
    for turns in found["turns"].values():
        (turn,) = turns
        assert turn["seconds"] == pytest.approx(turn["collect"] + turn["update"])
        assert min(turn.values()) > 0.0
    assert all(seconds > 0.0 for times in found["simulators"].values() for seconds in times)


def test_figures_show_all_cases():
    data = common.load("job")
    assert len(jobs_figure(data).data) == len(data["cases"])
    assert len(growth_figure(data["growth"]).data) == len(data["growth"]["points"][0]["steps_per_second"])
