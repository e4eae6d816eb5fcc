"""The high-level API: whole runs, what they leave on disk, and how it is restored."""
# ruff: noqa: E402  without the extra there is nothing to test

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

for extra in ("joblib", "rliable", "scipy"):
    pytest.importorskip(extra)

import matplotlib as mpl
from experiments import BUILDERS, algorithms, assert_same_state, environments, make_builder, outputs, training
from rliable import library as rly
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.experiment import ExperimentConfig
from tianshou.highlevel.params.lr_scheduler import LRSchedulerFactoryFactoryLinear

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.highlevel import (
    LoggerFactoryEveryUpdate,
    StatePersistence,
    TRPOParams,
    TrustRegionExperiment,
)

mpl.use("Agg")

# Whole runs


@algorithms
@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_short_run_with_tianshous_default_configuration(algorithm, task):
    config = OnPolicyTrainingConfig(max_epochs=1, epoch_num_steps=100, num_training_envs=2, num_test_envs=2)
    builder = BUILDERS[algorithm][0](environments(task), ExperimentConfig(persistence_enabled=False), config)
    result = builder.build().run(run_name="test")
    assert result.trainer_result.update_step == 1
    assert type(result.world.algorithm) is algorithm


def test_cartpole_is_learned_and_every_update_is_logged(tmp_path):
    config = ExperimentConfig(seed=1, persistence_base_dir=str(tmp_path), watch_num_episodes=2)
    builder = make_builder(
        params=TRPOParams(max_kl=0.02, critic_fit=GaussNewtonFit(), deterministic_eval=True),
        env_factory=environments("CartPole-v1"),
        config=config,
        epochs=2,
        epoch_num_steps=10_000,
        collection_step_num_env_steps=1000,
        num_training_envs=8,
        num_test_envs=8,
    )
    result = builder.build().run()
    assert result.trainer_result.best_reward > 195.0
    folder = tmp_path / "run" / "exp_seed=1"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {"experiment.pkl", "log.txt", "state_best.pt"}
    events = EventAccumulator(str(folder)).Reload()
    kl = [event.value for event in events.Scalars("update/kl/mean")]
    assert len(kl) == 20
    assert 0.0 < max(kl) <= 0.02 + 1e-6


def test_whole_episodes_are_collected_if_so_configured():
    collection = {"collection_step_num_env_steps": None, "collection_step_num_episodes": 4}
    result = make_builder(env_factory=environments("CartPole-v1"), **collection).build().run()
    assert result.trainer_result.train_step >= 800
    assert result.world.training_collector.collect_episode == 4 * result.trainer_result.update_step


def test_buffer_that_holds_no_rollout_is_refused():
    with pytest.raises(ValueError, match="buffer_size must be at least collection_step_num_env_steps = 400, got 399"):
        make_builder(buffer_size=399).build()


@pytest.fixture
def few_bootstraps(monkeypatch):
    """The evaluation as it is, with 100 resamples in place of up to 50,000."""
    for name in ("get_interval_estimates", "create_performance_profile"):
        monkeypatch.setattr(rly, name, partial(getattr(rly, name), reps=100))


@pytest.mark.usefixtures("few_bootstraps")
def test_several_seeds_and_their_evaluation(tmp_path):
    builder = make_builder(config=ExperimentConfig(seed=3, persistence_base_dir=str(tmp_path), watch=False), epochs=2)
    stats = builder.build_and_run(3)
    rewards = [s.best_reward for s in stats]
    assert len(set(rewards)) == 3
    again = builder.build_seeded_collection(3).experiments[1]
    assert again.run(run_name="again").trainer_result.best_reward == rewards[1]
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} == {
        *(f"exp_seed={seed}" for seed in (3, 4, 5)),
        "iqm_sample_efficiency_curve_test.png",
        "performance_profile_test.png",
        "rliable_evaluation_test.json",
    }
    evaluation = json.loads((folder / "rliable_evaluation_test.json").read_text())
    assert [entry["env_step"] for entry in evaluation] == [0, 800, 1600]
    for entry in evaluation:
        low, high = entry["iqm_confidence_interval"]
        assert low <= entry["iqm"] <= high


# Persistence


FULL = {"return_scaling": True, "max_kl": 0.05}


def full_builder(base, epochs=2, env_factory=None, restore=None, **config):
    """An experiment with all that can be stored: optimiser, schedule, return and observation statistics."""
    directories = {"persistence_base_dir": str(base), "policy_restore_directory": restore and str(restore)}
    builder = make_builder(
        params=TRPOParams(lr_scheduler=LRSchedulerFactoryFactoryLinear(training(epochs=8)), **FULL),
        env_factory=env_factory or environments(obs_norm=True),
        config=ExperimentConfig(**directories, watch_num_episodes=1, **config),
        epochs=epochs,
    )
    return builder.with_logger_factory(LoggerFactoryEveryUpdate(save_interval=1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs: its folder and its world."""
    base = tmp_path_factory.mktemp("finished")
    world = full_builder(base).build().run().world
    return Path(world.persist_directory), world


@pytest.fixture
def run(finished, tmp_path):
    """The finished run's folder, copied, so that a test may change it."""
    return Path(shutil.copytree(finished[0], tmp_path / "run" / "exp_seed=42"))


def test_folder_holds_experiment_log_and_states(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {"experiment.pkl", "log.txt", "state_best.pt", "state_epoch_1.pt", "state_epoch_2.pt"}
    state = torch.load(folder / "state_epoch_2.pt", weights_only=True)
    assert state.keys() == {"algorithm", "observations", "score"}
    assert math.isfinite(torch.load(folder / "state_best.pt", weights_only=True)["score"])


def test_states_are_those_of_their_epoch(finished):
    folder, world = finished
    state = torch.load(folder / "state_epoch_2.pt", weights_only=True)
    torch.testing.assert_close(state["algorithm"], world.algorithm.state_dict(), rtol=0, atol=0)
    statistics = world.envs.training_envs.get_obs_rms()
    assert np.array_equal(state["observations"]["mean"].numpy(), statistics.mean)
    assert np.array_equal(state["observations"]["var"].numpy(), statistics.var)
    assert state["observations"]["count"] == statistics.count > 1600


@pytest.mark.parametrize("pickled", [True, False])
def test_best_policy_is_restored_bit_for_bit(tmp_path, pickled):
    experiment = full_builder(tmp_path).build()
    world = experiment.create_experiment_world()
    saved, best = world.trainer.params.save_best_fn, []

    def save(algorithm):
        saved(algorithm)
        best.append(outputs(world))

    world.trainer.params.save_best_fn = save
    world.trainer.run()
    if pickled:
        restored = TrustRegionExperiment.from_directory(world.persist_directory)
        restored.config.train = False
    else:
        restored = full_builder(tmp_path, restore=world.persist_directory, train=False).build()
    result = restored.run(run_name="watch")
    assert result.trainer_result is None
    assert torch.equal(outputs(result.world)[0], best[-1][0])
    assert torch.equal(outputs(result.world)[1], best[-1][1])
    statistics = [envs.get_obs_rms() for envs in (result.world.envs.test_envs, result.world.envs.watch_env)]
    assert statistics[0].count == statistics[1].count > 0


def test_run_continues_where_it_stopped(finished, run):
    _, world = finished
    experiment = TrustRegionExperiment.from_directory(str(run))
    experiment.config.persistence_base_dir = str(run.parent.parent)
    experiment.training_config.max_epochs = 3
    continued = experiment.create_experiment_world(raise_error_on_dirname_collision=False)
    assert_same_state(continued, world)
    assert continued.algorithm.lr_schedulers[0].last_epoch == 4
    result = experiment.run(raise_error_on_dirname_collision=False)
    assert result.trainer_result.update_step == 6
    assert (run / "state_epoch_3.pt").exists()
    events = EventAccumulator(str(run)).Reload()
    assert [e.step for e in events.Scalars("update/kl/mean")] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in events.Scalars("training/n_collected_steps")] == [400, 800, 1200, 1600, 2000, 2400]


def test_continued_run_keeps_a_better_state(run):
    state = torch.load(run / "state_best.pt", weights_only=True)
    torch.save(state | {"score": 1e9}, run / "state_best.pt")
    before = (run / "state_best.pt").read_bytes()
    experiment = full_builder(run.parent.parent, epochs=3, restore=run, watch=False).build()
    experiment.run(raise_error_on_dirname_collision=False)
    assert (run / "state_best.pt").read_bytes() == before
    assert (run / "state_epoch_3.pt").exists()


def test_other_run_starts_from_the_best_state_with_counts_of_its_own(run):
    experiment = full_builder(run.parent.parent, epochs=1, restore=run, watch=False).build()
    world = experiment.create_experiment_world(override_experiment_name="other")
    best = torch.load(run / "state_best.pt", weights_only=True)["algorithm"]
    torch.testing.assert_close(world.algorithm.state_dict(), best, rtol=0, atol=0)
    assert world.trainer.run().train_step == 800


REFUSED = r"state_best\.pt must be a whole state that a run of trpo_ts\.highlevel saved"


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def test_file_from_an_untrusted_source_runs_no_code(run, tmp_path):
    torch.save({"algorithm": Payload(tmp_path / "ran"), "observations": None, "score": 0.0}, run / "state_best.pt")
    (run / "experiment.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    experiment = full_builder(tmp_path, restore=run, train=False).build()
    with pytest.raises(ValueError, match=REFUSED):
        experiment.run(run_name="watch")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps([1], protocol=2), None])
def test_other_files_are_refused(run, tmp_path, content):
    if content is None:
        torch.save({"weights": 1}, run / "state_best.pt")
    else:
        (run / "state_best.pt").write_bytes(content)
    experiment = full_builder(tmp_path, restore=run, train=False).build()
    with pytest.raises(ValueError, match=REFUSED):
        experiment.run(run_name="watch")


@pytest.mark.parametrize("kind", ["cut", "changed"])
def test_damaged_file_is_refused(run, tmp_path, kind):
    content = bytearray((run / "state_best.pt").read_bytes())
    weight = torch.load(run / "state_best.pt", weights_only=True)["algorithm"]["critic.last.weight"]
    if kind == "cut":
        del content[-1000:]
    else:
        content[content.index(weight.numpy().tobytes())] ^= 1
    (run / "state_best.pt").write_bytes(content)
    experiment = full_builder(tmp_path, restore=run, train=False).build()
    with pytest.raises(ValueError, match=REFUSED + ", got .*damaged"):
        experiment.run(run_name="watch")


def test_missing_state_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    experiment = full_builder(tmp_path, restore=tmp_path / "empty", train=False).build()
    with pytest.raises(FileNotFoundError, match=r"state_best\.pt does not exist; restore from the folder of a run"):
        experiment.run()


@pytest.mark.parametrize("normalised", [True, False])
def test_statistics_and_environments_must_fit(tmp_path, normalised):
    saved = full_builder(tmp_path, epochs=1, env_factory=environments(obs_norm=normalised)).build().run(run_name="a")
    other = environments(obs_norm=not normalised)
    experiment = full_builder(
        tmp_path, env_factory=other, restore=saved.world.persist_directory, train=False, watch=False
    ).build()
    with pytest.raises(ValueError, match="must hold observation statistics exactly if the environments normalise"):
        experiment.create_experiment_world(override_experiment_name="b")


def test_interrupted_write_leaves_the_old_state(finished, run, monkeypatch):
    _, world = finished
    before = (run / "state_best.pt").read_bytes()
    files = sorted(run.iterdir())

    def broken(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    monkeypatch.setattr(world, "persist_directory", str(run))
    with pytest.raises(OSError, match="disk full"):
        StatePersistence().persist(world.algorithm, world)
    assert (run / "state_best.pt").read_bytes() == before
    assert sorted(run.iterdir()) == files


def test_nothing_is_written_where_persistence_is_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_builder().build().run()
    assert list(tmp_path.iterdir()) == []
