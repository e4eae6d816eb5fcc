"""TensorBoard: every update, over environment steps, and nothing that says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from runs import ROLLOUT, STEPS, UPDATES, make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trpo_ts.loggers.scalars import scalars_of
from trpo_ts.training import tensorboard_logger

EVERY_UPDATE = [ROLLOUT * n for n in range(1, UPDATES + 1)]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The event file of a training, and the calls that saved its checkpoints."""
    folder, saved = tmp_path_factory.mktemp("events"), []
    algorithm, params = make_run(
        logger=tensorboard_logger(folder),
        batch_size=8,
        save_checkpoint_fn=lambda epoch, env_step, update: saved.append((epoch, env_step, update)) or "",
    )
    algorithm.run_training(params)
    return EventAccumulator(str(folder)).Reload(), saved


def steps(events, tag):
    return [event.step for event in events.Scalars(tag)]


def test_the_logger_writes_every_update_and_saves_after_every_epoch(logged):
    events, saved = logged
    assert steps(events, "update/kl/mean") == EVERY_UPDATE
    assert steps(events, "training/n_collected_steps") == EVERY_UPDATE
    assert saved == [(1, STEPS, 3), (2, 2 * STEPS, 6)]


def test_every_curve_is_over_environment_steps(logged):
    events, _ = logged
    ends = {"update": EVERY_UPDATE, "training": EVERY_UPDATE, "test": [0, STEPS, 2 * STEPS]}
    for tag in events.Tags()["scalars"]:
        allowed = ends.get(tag.partition("/")[0], [STEPS, 2 * STEPS])
        assert set(steps(events, tag)) <= set(allowed), tag
    assert [event.value for event in events.Scalars("update/update_step")] == list(range(1, UPDATES + 1))
    assert [event.value for event in events.Scalars("info/epoch")] == [1.0, 2.0]


def test_single_numbers_have_no_spread_and_nothing_is_there_twice(logged):
    events, _ = logged
    tags = set(events.Tags()["scalars"])
    assert {f"update/kl/{name}" for name in ("std", "max", "min")}.isdisjoint(tags)
    assert {f"test/returns_stat/{name}" for name in ("mean", "std", "max", "min")} <= tags
    assert {f"update/vf_loss/{name}" for name in ("mean", "std", "max", "min")} <= tags  # one loss for each minibatch
    assert not any("smoothed_loss" in tag or tag.endswith("env_step") for tag in tags)


def summary(mean, std, most, least):
    return {"mean": mean, "std": std, "max": most, "min": least}


def test_the_spread_of_several_equal_returns_is_a_fact_and_stays():
    one, two = np.array([5.0]), np.array([5.0, 5.0])
    equal = summary(5.0, 0.0, 5.0, 5.0)
    assert scalars_of({"returns": one, "returns_stat": equal}) == {"returns_stat/mean": 5.0}
    assert scalars_of({"returns": two, "returns_stat": equal}).keys() == {f"returns_stat/{name}" for name in equal}


def test_nested_numbers_are_named_and_what_is_no_number_is_left_out():
    stats = {"a": 1, "b": None, "c": "text", "d": {0: summary(1.0, 1.0, 2.0, 0.0), 1: np.float32(2.0)}, "e": np.True_}
    assert scalars_of(stats) == {
        "a": 1,
        "d/0/mean": 1.0,
        "d/0/std": 1.0,
        "d/0/max": 2.0,
        "d/0/min": 0.0,
        "d/1": 2.0,
        "e": True,
    }
    assert scalars_of({"smoothed_loss": {"kl": 1.0}, "kl": 2.0}) == {"kl": 2.0}


def test_numbers_arrays_and_figures_of_the_callers_own(tmp_path):
    from matplotlib.figure import Figure

    logger = tensorboard_logger(tmp_path)
    logger.write("mine/env_step", 64, {"score": 3.0, "weights": np.arange(4.0), "plot": Figure()})
    logger.finalize()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert steps(events, "mine/score") == [64]
    assert events.Tags()["histograms"] == ["mine/weights"]
    assert events.Tags()["images"] == ["mine/plot"]


def test_tianshous_resume_from_log_finds_its_place_and_repeats_nothing(tmp_path):
    algorithm, params = make_run(logger=tensorboard_logger(tmp_path), save_checkpoint_fn=lambda *counters: "")
    algorithm.run_training(params)
    algorithm, params = make_run(
        logger=tensorboard_logger(tmp_path), resume_from_log=True, max_epochs=3, save_checkpoint_fn=lambda *counters: ""
    )
    algorithm.run_training(params)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert steps(events, "update/kl/mean") == [ROLLOUT * n for n in range(1, 10)]
    assert steps(events, "test/returns_stat/mean") == [0, STEPS, 2 * STEPS, 3 * STEPS]
    assert [event.value for event in events.Scalars("save/epoch")] == [1.0, 2.0, 3.0]
