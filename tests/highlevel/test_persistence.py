"""What runs of the high-level API leave on disk, and how it is restored."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments import assert_same_state, environments, make_builder, outputs, training
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.highlevel.experiment import ExperimentConfig
from tianshou.highlevel.params.lr_scheduler import LRSchedulerFactoryFactoryLinear

from trpo_ts.highlevel import LoggerFactoryEveryUpdate, StatePersistence, TRPOParams, TrustRegionExperiment, persistence

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
    assert [e.step for e in events.Scalars("update/kl/mean")] == [400, 800, 1200, 1600, 2000, 2400]
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


def refused_by(path: Path, words: str) -> None:
    """Assert that a restore is refused by name, in memory that is small beside what the file claims."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{REFUSED}.*{words}"):
            persistence._read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["compressed", "overlapping"])
def test_a_small_file_that_claims_a_large_content_is_refused_before_it_is_unpacked(run, kind):
    path = run / "state_best.pt"
    with zipfile.ZipFile(path, "w") as archive:
        if kind == "compressed":
            archive.writestr("archive/data.pkl", bytes(2**26), zipfile.ZIP_DEFLATED)
        else:
            archive.writestr("archive/data.pkl", bytes(1000))
            archive.filelist[0].file_size = archive.filelist[0].compress_size = 2**26
    assert path.stat().st_size < 2**17
    refused_by(path, "records are compressed" if kind == "compressed" else "records are longer than the file")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(run, kind):
    path = run / "state_best.pt"
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    refused_by(path, "got a folder, a device or a pipe")


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
