"""The examples as a user runs them: learning thresholds, the report, every statistic in TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import fields
from functools import partial

import pytest
from browser import whole_page
from repository import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trpo_ts import TRPOTrainingStats
from trpo_ts.diagnostics import UpdateRecord, load_records

EXAMPLES = ROOT / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pipeline():
    return load("tianshou_pipeline")


def test_cartpole_reaches_tianshous_threshold_and_tensorboard_has_every_statistic(pipeline, tmp_path):
    result = pipeline.train("CartPole-v1", seed=1, epochs=2, logdir=tmp_path)
    assert result.best_reward >= 195.0
    events = EventAccumulator(str(tmp_path / "CartPole-v1" / "seed1"))
    events.Reload()
    tags = events.Tags()["scalars"]
    first = events.Scalars("training/n_collected_steps")[0]
    assert first.step == first.value
    for field in fields(TRPOTrainingStats):
        if field.name in ("smoothed_loss", "policy_std"):  # a categorical policy has no standard deviation
            continue
        series = [tag for tag in tags if tag.split("/")[:2] == ["update", field.name]]
        assert series, field.name
        assert all(events.Scalars(tag)[0].step == first.step for tag in series), field.name


def test_pendulum_reaches_tianshous_threshold(pipeline, tmp_path):
    result = pipeline.train("Pendulum-v1", seed=1, epochs=5, logdir=tmp_path)
    assert result.best_reward >= -250.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the folder of the demo, and what it printed."""
    folder = tmp_path_factory.mktemp("point_mass")
    command = [
        sys.executable,
        str(EXAMPLES / "point_mass.py"),
        "--seed",
        "11",
        "--steps",
        "150000",
        "--out",
        str(folder),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return folder, done.stdout


def test_point_mass_learns_and_reports(demo):
    folder, printed = demo
    assert printed.count("epoch ") == 10
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary) == ["seed", "env_steps", "wall_seconds", "final_return_mean", "max_kl_seen", "report"]
    assert summary["seed"] == 11
    assert 150_000 <= summary["env_steps"] < 160_000
    assert summary["final_return_mean"] > -30.0
    updates = [r for r in load_records(folder / "records.jsonl") if isinstance(r, UpdateRecord)]
    assert summary["max_kl_seen"] == max(u.kl for u in updates) <= 0.02
    page = (folder / summary["report"]).read_text()
    for title in ("A random rollout", "KL divergence per update", "The policy over training"):
        assert title in page


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_of_the_point_mass_is_whole(demo, chromium, width):
    with whole_page(chromium, demo[0] / "report.html", width):
        pass


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--seed", "-1"], ["--steps", "many"]])
def test_bad_options_are_refused_with_the_name(arguments):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "point_mass.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_highlevel_trains_seeds_evaluates_them_and_restores(tmp_path, monkeypatch, capsys):
    for extra in ("joblib", "rliable", "scipy"):
        pytest.importorskip(extra)
    import matplotlib as mpl
    from rliable import library as rly

    mpl.use("Agg")
    # The evaluation as it is, with 100 resamples in place of up to 50,000.
    for name in ("get_interval_estimates", "create_performance_profile"):
        monkeypatch.setattr(rly, name, partial(getattr(rly, name), reps=100))
    options = ["--task", "CartPole-v1", "--seeds", "2", "--steps", "20000", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["highlevel.py", *options])
    highlevel = load("highlevel")
    highlevel.main()
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:6]] == [str(i * 4096) for i in range(6)]
    assert float(out[-1].split()[3]) > 195.0
    with pytest.raises(SystemExit):
        highlevel.main()
    assert "--out must be a folder without results" in capsys.readouterr().err


@pytest.mark.slow
def test_environments_in_ray_train():
    pytest.importorskip("ray")
    command = [sys.executable, str(EXAMPLES / "ray_environments.py"), "--steps", "512", "--num-envs", "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1].startswith("mean return -")
