"""The tables in the documents are those of the committed data."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load(name):
    """Import a benchmark from its file, with the module that they share."""
    for module in ("common", name):
        if module not in sys.modules:
            spec = importlib.util.spec_from_file_location(module, ROOT / "benchmarks" / f"{module}.py")
            sys.modules[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module])
    return sys.modules[name]


def between_markers(document, name):
    text = (ROOT / document).read_text()
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_point_mass_table_and_target():
    benchmark = load("point_mass")
    runs = benchmark.common.load("point_mass")["runs"]
    assert between_markers("README.md", "point-mass") == benchmark.table(runs)
    assert [run["seed"] for run in runs] == list(range(10))
    for run in runs:
        assert run["final_return_mean"] > -30.0
        assert run["env_steps"] <= 614_000
        assert run["wall_seconds"] <= 90.0
        assert run["max_kl_seen"] <= 0.02


def test_speed_tables():
    benchmark = load("speed")
    for name, text in benchmark.tables(benchmark.common.load("speed")).items():
        assert between_markers("docs/benchmarks.md", name) == text
    assert between_markers("README.md", "speed") == benchmark.summary(benchmark.common.load("speed"))


def test_learning_table():
    benchmark = load("learning")
    assert between_markers("docs/benchmarks.md", "learning") == benchmark.table(benchmark.done())


def test_reliability_table_and_nothing_broke():
    load("reliability_cases")
    benchmark = load("reliability")
    cases = benchmark.common.load("reliability")["cases"]
    assert between_markers("docs/reliability.md", "reliability") == benchmark.table(cases)
    assert {case["case"] for case in cases} >= set(range(1000))
    assert sum(case.get("kills", 0) for case in cases) >= 50
    assert not [case for case in cases if any(case.get(name) for name in benchmark.MUST_BE_ZERO)]


def test_markers_must_be_there_once(tmp_path):
    common = load("point_mass").common
    document = tmp_path / "page.md"
    document.write_text("before <!-- a -->old<!-- /a --> after")
    common.write_between_markers(document, "a", "new")
    assert document.read_text() == "before <!-- a -->\nnew\n<!-- /a --> after"
    with pytest.raises(ValueError, match="must hold <!-- b -->"):
        common.write_between_markers(document, "b", "new")
