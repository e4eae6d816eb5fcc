"""Weights & Biases, the package itself without a network: what it wrote on disk is read."""

from __future__ import annotations

import json

import pytest
import wandb
from command_line import metrics, succeeds, train
from resumable import run_until, trainer_of
from runs import ROLLOUT, STEPS, UPDATES, make_run
from wandb_files import history, run_ids

from trpo_ts.loggers import CombinedLogger, tensorboard_logger, wandb_logger

EVERY_UPDATE = [ROLLOUT * n for n in range(1, UPDATES + 1)]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No network, nothing printed, and no run left open."""
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield
    if wandb.run is not None:
        wandb.run.finish()


def steps(rows, name):
    return [row["global_step"] for row in rows if name in row]


def test_a_training_is_sent_over_environment_steps_once_beside_tensorboard(tmp_path):
    saved = []
    logger = CombinedLogger(tensorboard_logger(tmp_path / "events"), wandb_logger(tmp_path, config={"max_kl": 0.01}))
    algorithm, params = make_run(logger=logger, save_checkpoint_fn=lambda *counters: saved.append(counters) or "path")
    algorithm.run_training(params)
    logger.finalize()
    rows = history(tmp_path)
    assert steps(rows, "update/kl/mean") == steps(rows, "training/n_collected_steps") == EVERY_UPDATE
    assert steps(rows, "test/returns_stat/mean") == [0, STEPS, 2 * STEPS]
    assert steps(rows, "info/best_score") == [STEPS, 2 * STEPS]
    assert len(rows) == UPDATES + 3 + 2
    assert len(saved) == 2
    assert wandb.run is None


def test_a_resumed_run_continues_its_run_and_sends_nothing_twice(tmp_path):
    run_until(tmp_path / "run", 5, every=10, logger=wandb_logger(tmp_path))
    wandb.run.finish()
    logger = wandb_logger(tmp_path)
    trainer_of(tmp_path / "run", every=10, logger=logger).run()  # the run goes back by two updates
    logger.finalize()
    rows = history(tmp_path)
    assert steps(rows, "update/kl/mean") == EVERY_UPDATE
    assert steps(rows, "test/returns_stat/mean") == [0, STEPS, 2 * STEPS]
    assert len(run_ids(tmp_path)) == 2
    assert len(set(run_ids(tmp_path))) == 1


def test_a_training_that_begins_anew_is_another_run(tmp_path):
    first = wandb_logger(tmp_path)
    first.write("mine/env_step", 8, {"score": 1.0})
    first.write("mine/env_step", 8, {"other": 2.0})
    first.finalize()
    second = wandb_logger(tmp_path)
    with pytest.warns(UserWarning, match=r"run \w+ of wandb is another training's; this one is run \w+"):
        second.write("mine/env_step", 8, {"score": 3.0})
    second.finalize()
    assert history(tmp_path) == [
        {"global_step": 8, "mine/score": 1},
        {"global_step": 8, "mine/other": 2},
        {"global_step": 8, "mine/score": 3},
    ]
    first_run, left_again, second_run = run_ids(tmp_path)
    assert first_run == left_again != second_run


def test_a_run_that_is_open_is_used(tmp_path):
    run = wandb.init(project="mine", dir=tmp_path)
    logger = wandb_logger(tmp_path / "folder")
    logger.write("mine/env_step", 8, {"score": 1.0})
    assert logger.wandb_run is run
    saved = []
    for epoch in (1, 2):
        wandb_logger(tmp_path / "folder", save_interval=None).save_data(epoch, 8, 1, saved.append)
        logger.save_data(epoch, 8, 1, lambda *counters: saved.append(counters) or "path")
    assert saved == [(1, 8, 1), (2, 8, 1)]
    logger.finalize()
    assert history(tmp_path) == [{"global_step": 8, "mine/score": 1}]


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "wandb_run.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"wandb_run\.json must hold the id of a run and its steps: .*; delete it"):
        wandb_logger(tmp_path)


def test_the_command_line_tells_wandb_too_and_remembers_it(tmp_path):
    train(tmp_path, "--logger", "wandb", steps=64)
    assert json.loads((tmp_path / "config.json").read_text())["logger"] == "wandb"
    succeeds("resume", tmp_path, "--steps", 128)
    rows = history(tmp_path)
    assert (
        steps(rows, "update/kl/mean") == [32, 64, 96, 128] == [row["env_steps"] for row in metrics(tmp_path, "update")]
    )
    assert len(set(run_ids(tmp_path))) == 1
    assert list(tmp_path.glob("events.*"))


def test_the_command_line_may_tell_nobody_and_later_somebody(tmp_path):
    train(tmp_path, "--logger", "none", steps=32, test_every=0)
    assert not list(tmp_path.glob("events.*"))
    train(tmp_path, steps=64, test_every=0)
    assert list(tmp_path.glob("events.*"))
    assert json.loads((tmp_path / "config.json").read_text())["logger"] == "tensorboard"
    assert [row["env_steps"] for row in metrics(tmp_path, "update")] == [32, 64]


def test_experiments_of_the_high_level_api_tell_wandb_over_environment_steps(tmp_path):
    pytest.importorskip("rliable")
    from trpo_ts.highlevel import LoggerFactoryEveryUpdate

    factory = LoggerFactoryEveryUpdate("wandb", wandb_project="mine")
    logger = factory.create_logger(str(tmp_path), "a/b", None, {"max_kl": 0.02})
    assert isinstance(logger, factory.get_logger_class())
    logger.log_update_data({"kl": 0.01}, 1)
    logger.log_training_data({"n_collected_steps": 64}, 64)
    logger.finalize()
    row = {"global_step": 64, "update/update_step": 1, "update/kl": 0.01, "training/n_collected_steps": 64}
    assert history(tmp_path) == [row]
