"""The tables in the documents are those of the committed data, and the benchmarks run."""

from __future__ import annotations

import math
from functools import partial
from importlib.util import find_spec
from itertools import product

import common
import decided_studies
import numpy as np
import point_mass
import pytest
import reliability
import solver_learning
import speed
from fault_injection import MUST_BE_ZERO
from repository import between_markers
from updates.cases import ON_IMAGES, WITH_MINIBATCHES, Case, images, trained
from updates.documents import growth_figure, sides_figure, summary, tables
from updates.measure import compare, grow, peak_memory, peak_memory_of_fresh_process
from updates.sides import ALL, BASELINE, CLOSE, GAUSS_NEWTON, MICRO_BATCHES, MINIBATCHES, OURS
from updates.start import synthetic_start

from trpo_ts.diagnostics import TrainingRecorder


def test_point_mass_table_and_target():
    runs = common.load("point_mass")["runs"]
    assert between_markers("docs/point_mass.md", "point-mass") == point_mass.table(runs)
    assert [run["seed"] for run in runs] == list(range(10))
    for run in runs:
        assert run["final_return_mean"] > -30.0
        assert run["env_steps"] <= 614_000
        assert run["wall_seconds"] <= 90.0
        assert run["max_kl_seen"] <= 0.02


def test_speed_tables():
    data = common.load("speed")
    for name, text in tables(data).items():
        assert between_markers("docs/benchmarks.md", name) == text
    assert between_markers("README.md", "speed") == summary(data)


def test_learning_table():
    assert between_markers("docs/benchmarks.md", "solver-learning") == solver_learning.table(solver_learning.done())


@pytest.mark.parametrize("name", decided_studies.TABLES)
def test_tables_of_decided_studies(name):
    text = decided_studies.TABLES[name](common.load(name)["rows"])
    assert between_markers("docs/benchmarks.md", name) == text


def test_reliability_table_and_nothing_broke():
    cases = common.load("reliability")["cases"]
    assert between_markers("docs/reliability.md", "reliability") == reliability.table(cases)
    assert {case["case"] for case in cases} >= set(range(1000))
    assert sum(case.get("kills", 0) for case in cases) >= 50
    assert not [case for case in cases if any(case.get(name) for name in MUST_BE_ZERO)]


def test_markers_must_be_there_once(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("before <!-- a -->old<!-- /a --> after")
    common.write_between_markers(document, "a", "new")
    assert document.read_text() == "before <!-- a -->\nnew\n<!-- /a --> after"
    with pytest.raises(ValueError, match="must hold <!-- b -->"):
        common.write_between_markers(document, "b", "new")


def available(names):
    """Return the sides whose libraries are installed."""
    needs = {"SB3-contrib": "sb3_contrib", MINIBATCHES: "sb3_contrib", "skrl": "skrl"}
    return tuple(name for name in names if find_spec(needs.get(name, "torch")))


QUICK = (
    Case("quick", trained("Pendulum-v1", (8, 8), 128, 2), 1, available(WITH_MINIBATCHES)),
    Case("quick, synthetic", partial(synthetic_start, 256, (8, 8)), 1, available(ALL)),
    Case("quick, images", images(16, 0), 1, ON_IMAGES),
)
"""Updates of some seconds, without MuJoCo."""


@pytest.fixture(scope="module")
def quick():
    return [compare(case) for case in QUICK]


@pytest.fixture(scope="module")
def growth():
    return [grow(samples, width, rounds=1) for samples, width in ((64, 64), (128, 64), (4096, 8))]


def test_all_sides_take_the_same_step(quick):
    """Peers begin at the same networks, moments and rollout: the critic comes out the same, the direction is exact."""
    for case, expected in zip(quick, QUICK, strict=True):
        sides = case["sides"]
        assert tuple(sides) == expected.sides
        assert sides[BASELINE]["speed_up"] == 1.0
        for name, side in sides.items():
            assert side["milliseconds"] > 0.0
            assert 0.8 < side["optimality"] < 1.0 + 1e-3, (case["case"], name)
            if "critic_error" in side and name not in (GAUSS_NEWTON, CLOSE, MINIBATCHES):
                assert side["critic_error"] == pytest.approx(sides[BASELINE]["critic_error"], rel=1e-4), name
        assert sides[OURS]["products"] <= sides[BASELINE]["products"]


def test_solves_reach_their_accuracy(quick):
    for case in quick:
        rows = case["accuracy"]
        assert [(row["damping"], row["target"]) for row in rows] == list(product((0.1, 0.01), (0.9, 0.95)))
        for easy, hard in zip(rows[::2], rows[1::2], strict=True):
            assert 1 <= easy["products"]["plain"] <= hard["products"]["plain"]


def test_memory_of_an_update():
    names = available(speed.MEMORY_SIDES)
    assert {BASELINE, OURS, MICRO_BATCHES} <= set(names)
    assert all(0.0 <= peak_memory(name, 256) < 1000.0 for name in names)
    assert 0.0 < peak_memory_of_fresh_process(OURS, 4096) < 1000.0


def test_tables_and_figures_show_all_that_was_measured(quick, growth):
    memory = dict.fromkeys(available(speed.MEMORY_SIDES), 1.0)
    text = tables({"cases": quick, "growth": {speed.CPU: {"points": growth}}, "memory": memory})
    for name in ("speed", "step"):
        rows = [line.split("|")[2:-1] for line in text[name].splitlines()[2:]]
        shown = [sum(bool(cell.strip()) for cell in column) for column in zip(*rows, strict=True)]
        assert shown == [len(case.sides) for case in QUICK]
    assert text["accuracy"].count("\n| ") == 1 + len(QUICK)
    assert [line.split()[1] for line in text["growth"].splitlines()[4:]] == ["64", "128", "4,096"]
    assert len(sides_figure(quick).data) == len(QUICK)
    assert len(growth_figure(growth).data) == 6


def test_one_arm_learns(monkeypatch):
    """One job of the learning curves at toy size; the table holds each arm that has runs, in pairs of seeds."""
    for name, value in {"STEPS": 64, "TEST_EVERY": 32, "N_ENVS": 2, "ROLLOUT": 32}.items():
        monkeypatch.setattr(solver_learning, name, value)
    done = solver_learning.run((solver_learning.SOLVER, "Pendulum-v1", 0))
    assert done["steps"] == [0, 32, 64]
    assert all(math.isfinite(value) for value in done["returns"])
    assert done["products"] == 10.0


def test_the_unit_of_tianshou_is_that_before_the_rollout(monkeypatch):
    """Both units see the same first rollout; in the first update Tianshou's is one."""
    monkeypatch.setattr(solver_learning, "ROLLOUT", 32)
    scale = {}
    for arm in (solver_learning.BASELINE, solver_learning.SOLVER):
        solver_learning.torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        algorithm, params = solver_learning.training("Pendulum-v1", 0, solver_learning.ARMS[arm], TrainingRecorder())
        params.training_collector.reset()
        params.training_collector.collect(n_step=32)
        buffer = params.training_collector.buffer
        batch, indices = buffer.sample(0)
        scale[arm] = algorithm._preprocess_batch(batch, buffer, indices).returns.std()
    unit = float(np.sqrt(algorithm.ret_rms.var))
    assert float(scale[solver_learning.BASELINE] / scale[solver_learning.SOLVER]) == pytest.approx(unit, rel=1e-4)
