"""Learning curves beside the peers: the runs that are planned, the figures made of them, and one run of each side."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from importlib.util import find_spec

import learning
import numpy as np
import pytest
from curves.learning_documents import aggregate_table, curves_figure, returns_table
from curves.protocol import MUJOCO_TASKS, Curve, Plan
from curves.scores import aggregates, by_side, largest, last, normalised, probabilities_of_improvement, time_ratios
from repository import between_markers


def record(side: str, task: str, seed: int, returns: list[float], cpu_seconds: float = 100.0) -> dict[str, object]:
    steps = [100 * i for i in range(len(returns))]
    return {"side": side, "task": task, "seed": seed, "steps": steps, "returns": returns, "cpu_seconds": cpu_seconds}


def asked(**given):
    return Namespace(
        **{
            "trial": None,
            "seeds": None,
            "tasks": None,
            "sides": list(learning.SEEDS),
            "steps": None,
            "set": [],
            **given,
        }
    )


def test_reported_runs_are_seeds_from_0_of_each_side_and_task():
    plans = list(learning.planned(asked()))
    assert len(plans) == len({plan.key for plan in plans}) == 9 * sum(learning.SEEDS.values())
    assert {plan.seed for plan in plans if plan.side == learning.OURS} == set(range(10))
    assert {plan.steps for plan in plans} == {1_000_000}
    assert all(not plan.overrides for plan in plans)
    assert [plan.seed for plan in plans] == sorted(plan.seed for plan in plans)


def test_a_trial_has_its_name_its_settings_and_other_seeds():
    (plan,) = learning.planned(asked(trial="wider", tasks=["Hopper-v4"], seeds=[1003], set=[("max_kl", 0.02)]))
    assert plan == Plan("wider", "Hopper-v4", 1003, 1_000_000, {"max_kl": 0.02})


@pytest.mark.parametrize(
    ("text", "value"), [("a=0.5", 0.5), ("a=[8, 8]", [8, 8]), ("a=GaussNewtonFit()", "GaussNewtonFit()")]
)
def test_settings_of_a_trial(text, value):
    assert learning.setting(text) == ("a", value)


def test_what_is_done_is_not_done_again_and_results_are_appended(tmp_path, monkeypatch):
    path = tmp_path / "learning.jsonl"
    path.write_text(json.dumps(record(learning.OURS, "Hopper-v4", 0, [1.0, 2.0])) + "\n")
    monkeypatch.setattr(learning, "RESULTS", path)
    monkeypatch.setattr(learning, "SEEDS", {learning.OURS: 2})
    monkeypatch.setattr(learning, "ProcessPoolExecutor", _InThisProcess)
    monkeypatch.setattr(learning, "run", lambda plan: record(plan.side, plan.task, plan.seed, [3.0]))
    learning.measure(asked(tasks=["Hopper-v4"], sides=[learning.OURS], jobs=1))
    assert [(one["seed"], one["returns"]) for one in learning.read(path)] == [(0, [1.0, 2.0]), (1, [3.0])]


class _InThisProcess:
    def __init__(self, jobs, max_tasks_per_child):
        assert max_tasks_per_child == 1  # torch's and NumPy's state of a run is not the next one's

    def __enter__(self):
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(1)
        return self._pool

    def __exit__(self, *_):
        self._pool.shutdown()


def test_scores_are_0_untrained_and_1_at_the_best_published_trpo():
    runs = by_side(
        [
            *(record("a", "Hopper-v4", seed, [18.0, 3618.0, 1818.0]) for seed in range(3)),
            *(record("b", "Hopper-v4", seed, [18.0, 18.0, 18.0]) for seed in range(2)),
        ]
    )
    assert normalised(runs, largest)["a"].tolist() == [[1.0]] * 3
    assert normalised(runs, last)["a"].tolist() == [[0.5]] * 3
    assert normalised(runs, last)["b"].tolist() == [[0.0]] * 2


def test_only_tasks_of_every_side_and_seeds_of_every_task_count():
    runs = by_side(
        [
            *(record("a", task, seed, [0.0, 1.0]) for task in ("Hopper-v4", "Ant-v4") for seed in range(2)),
            record("a", "Ant-v4", 2, [0.0, 1.0]),
            record("b", "Ant-v4", 0, [0.0, 1.0]),
        ]
    )
    scores = normalised(runs, largest)
    assert {side: values.shape for side, values in scores.items()} == {"a": (3, 1), "b": (1, 1)}


def test_aggregates_are_those_of_rliable():
    generator = np.random.default_rng(0)
    scores = {"a": generator.normal(1.0, 0.1, (8, 3)), "b": generator.normal(0.5, 0.1, (8, 3))}
    values = np.sort(scores["a"].ravel())
    point, low, high = aggregates(scores)["a"]
    assert point == pytest.approx(values[6:18].mean())  # a quarter is cut at each end
    assert low < point < high
    point, low, high = probabilities_of_improvement(scores, "a")["b"]
    assert point == pytest.approx(
        np.mean([(x > scores["b"][:, i]).mean() for i in range(3) for x in scores["a"][:, i]])
    )
    assert low <= point <= high


def test_time_to_the_end_of_the_other_side():
    runs = by_side(
        [
            record("a", "Hopper-v4", 0, [0.0, 10.0, 30.0], cpu_seconds=10.0),  # 20 after 10 s
            record("a", "Ant-v4", 0, [0.0, 10.0, 10.0], cpu_seconds=10.0),
            record("b", "Hopper-v4", 0, [0.0, 40.0, 20.0], cpu_seconds=60.0),
            record("b", "Ant-v4", 0, [0.0, 40.0, 20.0], cpu_seconds=60.0),
        ]
    )
    assert time_ratios(runs, "a", "b") == {"Hopper-v4": 6.0, "Ant-v4": None}


def test_the_tables_are_those_of_the_data():
    found = learning.tables(by_side(learning.read(learning.RESULTS)), by_side(learning.read(learning.TRIALS)))
    for name, text in found.items():
        assert between_markers("docs/learning.md", name) == text


def test_documents_show_what_there_is():
    runs = by_side(
        record(side, task, seed, [0.0, 100.0 * (i + 1), 90.0 * (i + 1)])
        for i, side in enumerate(("a", "b"))
        for task in ("Hopper-v4", "Reacher-v4")
        for seed in range(2)
    )
    rows = returns_table(runs, ["a", "b"], list(MUJOCO_TASKS)).splitlines()
    assert len(rows) == 2 + 9
    (hopper,) = (row for row in rows if "Hopper" in row)
    assert [cell.strip() for cell in hopper.split("|")[2:-1]] == [
        "100 ± 0, 90 (2)",
        "200 ± 0, 180 (2)",
        "3,618",
        "2,609",
    ]
    text = aggregate_table(runs, "a", "b")
    assert "| Hopper-v4 | not reached |" in text
    assert len(curves_figure(runs, ["a", "b"], list(MUJOCO_TASKS)).data) == 2 * 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("side", list(learning.SEEDS))
def test_one_short_run_of_each_side(side):
    if "SB3" in side and find_spec("sb3_contrib") is None:
        pytest.skip("SB3-contrib is not installed")
    found = learning.run(Plan(side, "InvertedPendulum-v4", 0, 2048))
    assert found["steps"][0] == 0
    assert found["steps"] == sorted(found["steps"])
    assert found["steps"][-1] >= 2048
    assert len(found["returns"]) == len(found["steps"]) == len(found["training"])
    assert all(math.isfinite(value) and value > 0.0 for value in found["returns"])


def test_training_returns_are_those_since_the_test_before():
    curve = Curve()
    curve.add(0, 1.0, [])
    curve.add(10, 2.0, [1.0, 2.0])
    assert curve.training == [None, 1.5]
