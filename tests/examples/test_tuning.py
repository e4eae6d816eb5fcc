"""The example of a study runs, starts from the preset and prints a command that can be typed."""

from __future__ import annotations

import importlib.util

import pytest
from repository import ROOT

from trpo_ts.cli.commands import Train
from trpo_ts.presets import Settings


@pytest.fixture(scope="module")
def tuning():
    pytest.importorskip("optuna")
    spec = importlib.util.spec_from_file_location("tuning", ROOT / "examples" / "tuning.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_study_begins_with_the_preset_and_ends_with_a_command(tuning, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    tuning.search("CartPole-v1", trials=1, steps=256, seeds=1, storage=storage)
    study = tuning.search("CartPole-v1", trials=1, steps=256, seeds=1, storage=storage)  # continues
    assert len(study.trials) == 2
    first = study.trials[0].params
    assert (first["max_kl"], first["segment"]) == (0.02, 64)
    assert first["horizon"] == pytest.approx(100.0)
    assert 8.0 <= study.best_value <= 500.0
    options = [word[2:].replace("-", "_") for word in tuning.command("CartPole-v1", first).split() if word[:2] == "--"]
    assert set(options) <= set(Settings.names()) | {name for name in vars(Train) if name[0] != "_"} | {"task"}
