"""The tables in the documents are those of the committed data, and the benchmarks run."""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace

import common
import critic
import directions
import learning
import numpy as np
import point_mass
import pytest
import reliability
import return_unit
import speed
import torch
from repository import ROOT
from torch import nn
from updates import critics, figures, tables
from updates.cases import quick_cases
from updates.local import batch_of, local
from updates.sides import BASELINE, CLOSE, GAUSS_NEWTON, MICRO_BATCHES, OURS, available
from updates.start import synthetic_start
from updates.synthetic import SyntheticRollout

from trpo_ts import TRPO
from trpo_ts.critics import OptimizerFit
from trpo_ts.solver.conjugate_gradient import conjugate_gradient
from trpo_ts.solver.linear_operators import damped


def between_markers(document, name):
    text = (ROOT / document).read_text()
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_point_mass_table_and_target():
    runs = common.load("point_mass")["runs"]
    assert between_markers("README.md", "point-mass") == point_mass.table(runs)
    assert [run["seed"] for run in runs] == list(range(10))
    for run in runs:
        assert run["final_return_mean"] > -30.0
        assert run["env_steps"] <= 614_000
        assert run["wall_seconds"] <= 90.0
        assert run["max_kl_seen"] <= 0.02


def test_speed_tables():
    data = common.load("speed")
    for name, text in tables.tables(data).items():
        assert between_markers("docs/benchmarks.md", name) == text
    assert between_markers("README.md", "speed") == tables.summary(data)


def test_learning_table():
    assert between_markers("docs/benchmarks.md", "learning") == learning.table(learning.done())


def test_critic_tables():
    rows = common.load("critic")["rows"]
    for start in critic.STARTS:
        assert between_markers("docs/benchmarks.md", f"critic-{start}") == critic.table(rows, start)


def test_directions_table():
    assert between_markers("docs/benchmarks.md", "directions") == directions.table(common.load("directions")["rows"])


def test_return_unit_table():
    assert between_markers("docs/benchmarks.md", "return-unit") == return_unit.table(common.load("return_unit")["rows"])


def test_reliability_table_and_nothing_broke():
    cases = common.load("reliability")["cases"]
    assert between_markers("docs/reliability.md", "reliability") == reliability.table(cases)
    assert {case["case"] for case in cases} >= set(range(1000))
    assert sum(case.get("kills", 0) for case in cases) >= 50
    assert not [case for case in cases if any(case.get(name) for name in reliability.MUST_BE_ZERO)]


def test_markers_must_be_there_once(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("before <!-- a -->old<!-- /a --> after")
    common.write_between_markers(document, "a", "new")
    assert document.read_text() == "before <!-- a -->\nnew\n<!-- /a --> after"
    with pytest.raises(ValueError, match="must hold <!-- b -->"):
        common.write_between_markers(document, "b", "new")


@pytest.fixture(scope="module")
def quick():
    return speed.quick()


def test_all_sides_take_the_same_step(quick):
    """Peers begin at the same networks, moments and rollout: the critic comes out the same, the direction is exact."""
    for case, expected in zip(quick["cases"], quick_cases(), strict=True):
        sides = case["sides"]
        assert tuple(sides) == expected.sides
        assert sides[BASELINE]["speed_up"] == 1.0
        for name, side in sides.items():
            assert side["milliseconds"] > 0.0
            assert 0.8 < side["optimality"] < 1.0 + 1e-3, (case["case"], name)
            if "critic_error" in side and name not in (GAUSS_NEWTON, CLOSE, "SB3-contrib, 10 epochs of minibatches"):
                assert side["critic_error"] == pytest.approx(sides[BASELINE]["critic_error"], rel=1e-4), name
        assert sides[OURS]["products"] <= sides[BASELINE]["products"]


def test_solves_reach_their_accuracy(quick):
    for case in quick["cases"]:
        assert [(row["damping"], row["target"]) for row in case["accuracy"]] == [
            (0.1, 0.9),
            (0.1, 0.95),
            (0.01, 0.9),
            (0.01, 0.95),
        ]
        for easy, hard in zip(case["accuracy"][::2], case["accuracy"][1::2], strict=True):
            assert 1 <= easy["products"]["plain"] <= hard["products"]["plain"]


def test_growth_and_memory(quick):
    points = quick["growth"]["one CPU thread"]["points"]
    assert [(point["samples"], point["width"]) for point in points] == [(64, 64), (128, 64), (4096, 8)]
    assert set(quick["memory"]) == set(available(speed.MEMORY_SIDES))
    assert all(0.0 <= megabytes < 1000.0 for megabytes in quick["memory"].values())
    assert {BASELINE, OURS, MICRO_BATCHES} <= set(quick["memory"])


def test_tables_and_figures_show_all_that_was_measured(quick):
    quick = {**quick, "memory": dict.fromkeys(quick["memory"], 1.0)}  # so small an update may take none
    text = tables.tables(quick)
    assert text["speed"].count("\n") == 1 + sum(len(case["sides"]) for case in quick["cases"])
    assert text["accuracy"].count("\n| ") == 2 + 4 * len(quick["cases"])
    assert "4,096" in text["growth"]
    found = figures.figures(quick)
    assert [len(figure.data) for figure in found.values()] == [len(quick["cases"]), 6, 6]


def test_critics_are_judged(monkeypatch):
    monkeypatch.setattr(critic, "SAMPLES", 64)
    monkeypatch.setattr(critic, "HELD_OUT", 2)
    monkeypatch.setattr(critics, "LEFT_TO_CRITICS", 0.95)
    rows = critic.run("Pendulum-v1", 0, (1, 2))
    names = list(critic.fits())
    assert len(rows) == 2 * len(names) * len(critic.STARTS)
    for row in rows:
        assert all(math.isfinite(row[error]) and row[error] > 0.0 for error in critic.ERRORS)
    for row in rows[: len(critic.STARTS)]:
        assert row["rollout"] < row["before"]
    for start in critic.STARTS:
        lines = critic.table(rows, start).splitlines()
        assert [line.split("|")[1].strip() for line in lines[2:]] == names
        assert lines[2].split("|")[2].split() == ["1.000", "/", "1.000", "/", "1.000"]


def test_directions_are_judged(monkeypatch):
    for name, value in {"SAMPLES": 64, "TRUTH": 256, "ROLLOUTS": 2, "PHASES": ((0, 1), (2,))}.items():
        monkeypatch.setattr(directions, name, value)
    rows = list(directions.run("Pendulum-v1", 0))
    assert len(rows) == 3 * len(directions.SOLVERS)
    for row in rows:
        assert all(math.isfinite(row[key]) for key in ("per_divergence", "step", "full_step", "share"))
    lines = directions.table(rows).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == [solver.name for solver in directions.SOLVERS]
    assert lines[2].split("|")[3].split()[:3] == ["1.00", "/", "1.00"]


def test_units_of_returns_are_compared(monkeypatch):
    """All units see the same first rollout; without scaling the statistics are kept, and the critic is in rewards."""
    monkeypatch.setattr(return_unit, "SAMPLES", 64)
    monkeypatch.setattr(return_unit, "SHOWN", (1, 2))
    rows = list(return_unit.run("Pendulum-v1", 0, updates=2))
    assert [(row["fit"], row["unit"]) for row in rows] == list(product(return_unit.FITS, return_unit.UNITS))
    assert [row["deviation"][0] for row in rows] == pytest.approx([rows[0]["deviation"][0]] * len(rows))
    assert len({row["deviation"][1] for row in rows}) == len(rows)
    assert return_unit.table(rows).count("\n") == 1 + len(rows)


def test_the_judged_gain_is_that_of_the_direction():
    """By its own rollout, a direction's gain per root of damped divergence is at most that of the exact solve."""
    algorithm = synthetic_start(256, (8,)).algorithm(TRPO)
    rollout = local(algorithm, batch_of(algorithm, SyntheticRollout(256)))
    model, damping = rollout.model, 0.5
    gains = directions.judged(directions.Solver(damping), rollout, model)
    exact = conjugate_gradient(damped(model.fisher, damping), model.gradient, max_iterations=300)
    best = math.sqrt(2.0 * directions.MAX_KL * float(model.gradient.dot(exact.x)))
    assert 0.9 * best < gains["step"] <= best * (1.0 + 1e-4)
    assert gains["share"] == pytest.approx((gains["step"] / gains["full_step"]) ** 2, rel=1e-3)


def test_true_returns_of_a_constant_reward():
    """One forever is worth 1 / (1 - gamma); rows with more than a tenth of that left to the critic are not judged."""
    algorithm = synthetic_start(64, (4,)).algorithm(TRPO)
    buffer = SyntheticRollout(16 * 250)
    buffer._batch.rew[:] = 1.0
    rollout = critics.CriticRollout(SimpleNamespace(algorithm=algorithm), buffer)
    worth = 1.0 / (1.0 - algorithm.gamma) / rollout._scale
    exact = nn.Linear(17, 1)
    nn.init.zeros_(exact.weight)
    nn.init.constant_(exact.bias, worth)
    follower = critics.Follower(OptimizerFit(0), exact, torch.optim.Adam(exact.parameters()))
    rows, returns = rollout.true_returns([follower])
    horizon = math.ceil(math.log(critics.LEFT_TO_CRITICS) / math.log(algorithm.gamma))
    assert rows.tolist() == [row for row in range(16 * 250) if 250 - row % 250 >= horizon]
    np.testing.assert_allclose(returns.numpy(), worth, rtol=1e-5)
