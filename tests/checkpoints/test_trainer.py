"""A resumed run equals the run that was never stopped."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time

import envpool
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from resumable import checkpoints, run_until, trainer_of
from runs import ENVS, ROLLOUT, STEPS, UPDATES, bits, make_run, timeless
from tianshou.env import SubprocVectorEnv

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file
from trpo_ts.checkpoints.generators import generator_states
from trpo_ts.collectors import RolloutCollector, as_vector_env


def sync_vector(functions):
    vector = SyncVectorEnv(functions)
    for space in (vector.single_observation_space, vector.single_action_space):
        space.seed(0)  # the vector has made their generators, from nothing that a seed determines
    return as_vector_env(vector)


@pytest.mark.parametrize("update", [0, 2, 3, 4])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, whole, update):
    """Stopped within an epoch (2, 4), at its end (3) and before the first update: all later checkpoints are equal."""
    folder, trainer = whole
    shutil.copy(folder / f"update_{update:06d}.ckpt", tmp_path)
    resumed = trainer_of(tmp_path, seed=9)
    resumed.run()
    later = [f"update_{n:06d}.ckpt" for n in range(update, UPDATES + 1)]
    assert [name for name in checkpoints(tmp_path) if name.startswith("update")] == later
    for name in later:
        assert bits(timeless(read_file(tmp_path / name))) == bits(timeless(read_file(folder / name))), name
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"task": "CartPole-v1"},
        {"task": "Pendulum-v1", "normalised": False},
        {"task": "Acrobot-v1", "tests": False},
        {"collection_step_num_env_steps": None, "collection_step_num_episodes": ENVS},
        {"collector": RolloutCollector},
        {"rewards": True},
        {"collector": RolloutCollector, "task": "CartPole-v1", "vector": sync_vector},
    ],
    ids=lambda kwargs: " ".join(kwargs),
)
def test_a_resumed_run_of_other_environments_or_whole_episodes_equals_the_uninterrupted_one(tmp_path, kwargs):
    trainer = trainer_of(tmp_path / "whole", **kwargs)
    trainer.run()
    run_until(tmp_path / "stopped", 2, **kwargs)
    resumed = trainer_of(tmp_path / "stopped", seed=9, **kwargs)
    resumed.run()
    last = [name for name in checkpoints(tmp_path / "whole") if name.startswith("update")][-1]
    first, second = (timeless(read_file(tmp_path / folder / last)) for folder in ("whole", "stopped"))
    assert bits(first) == bits(second)


def test_a_finished_run_is_unchanged_and_resumes_when_more_epochs_are_asked_for(tmp_path, whole):
    folder, trainer = whole
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    again = trainer_of(tmp_path, seed=9)
    stats = again.run()
    assert stats.update_step == UPDATES
    assert stats.best_reward == trainer._best_reward
    assert checkpoints(tmp_path) == checkpoints(folder)
    more = trainer_of(tmp_path, seed=9, max_epochs=3)
    assert more.run().update_step == UPDATES + STEPS // ROLLOUT


def test_a_run_that_reached_its_goal_does_not_train_on(tmp_path):
    reached = {"stop_fn": lambda score: score > -1e9}
    assert trainer_of(tmp_path, **reached).run().update_step == STEPS // ROLLOUT
    assert trainer_of(tmp_path, seed=9, **reached).run().update_step == STEPS // ROLLOUT


def test_only_the_newest_are_kept_and_the_interval_counts_updates(tmp_path):
    trainer_of(tmp_path, every=2, keep=2).run()
    assert checkpoints(tmp_path) == ["best.ckpt", "update_000004.ckpt", "update_000006.ckpt"]


class Scores:
    """A score function that gives prepared scores, one per test."""

    def __init__(self, *scores):
        self.scores = list(scores)

    def __call__(self, stats):
        return self.scores.pop(0)


def test_the_best_checkpoint_is_never_replaced_by_a_worse_one(tmp_path):
    """A first test of a resumed run would overwrite it, and so would a test repeated after a kill."""
    trainer_of(tmp_path, compute_score_fn=Scores(1.0, 5.0, 2.0)).run()
    best = (tmp_path / "best.ckpt").read_bytes()
    assert read_file(tmp_path / "best.ckpt")["best"]["best_score"] == 5.0

    resumed = trainer_of(tmp_path, compute_score_fn=Scores(4.0), max_epochs=3)
    resumed.run()
    assert (tmp_path / "best.ckpt").read_bytes() == best

    for path in tmp_path.glob("update_*"):  # back to a checkpoint from before the best test
        if path.name > "update_000002.ckpt":
            path.unlink()
    resumed = trainer_of(tmp_path, compute_score_fn=Scores(4.5, 6.0))
    resumed.run()
    assert read_file(tmp_path / "best.ckpt")["best"]["best_score"] == 6.0
    assert resumed._best_epoch == 2

    for path in tmp_path.glob("update_*"):
        path.unlink()
    trainer_of(tmp_path, compute_score_fn=Scores(3.0, 3.0, 3.0)).run()
    assert read_file(tmp_path / "best.ckpt")["best"]["best_score"] == 6.0


def test_the_best_checkpoint_is_the_learner_of_the_best_test(tmp_path):
    trainer = trainer_of(tmp_path, compute_score_fn=Scores(1.0, 5.0, 2.0))
    trainer.run()
    algorithm, params = make_run(seed=8)
    load_checkpoint(tmp_path / "best.ckpt", algorithm=algorithm, envs=params.training_collector.env)
    end_of_first_epoch = read_file(tmp_path / f"update_{STEPS // ROLLOUT:06d}.ckpt")
    assert bits(dict(algorithm.state_dict())) == bits(end_of_first_epoch["algorithm"])


def test_a_resumed_run_of_a_physics_engine_equals_the_uninterrupted_one(tmp_path):
    pytest.importorskip("mujoco")
    kwargs = {"task": "Ant-v5", "tests": False}
    trainer = trainer_of(tmp_path / "whole", **kwargs)
    trainer.run()
    run_until(tmp_path / "stopped", 2, **kwargs)
    assert read_file(tmp_path / "stopped" / "update_000002.ckpt")["run"]["collectors"]["training"]["episodes"]
    resumed = trainer_of(tmp_path / "stopped", seed=9, **kwargs)
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))


@pytest.mark.parametrize("kwargs", [{"task": "Opaque-v0"}, {"vector": SubprocVectorEnv}], ids=["opaque", "processes"])
def test_without_the_environments_state_the_learner_is_the_saved_one_and_episodes_are_new(tmp_path, kwargs):
    run_until(tmp_path, 2, **kwargs)
    saved = read_file(tmp_path / "update_000002.ckpt")
    assert saved["run"]["collectors"]["training"]["episodes"] is None
    observations = []
    for seed in (9, 0):
        resumed = trainer_of(tmp_path, seed=seed, **kwargs)
        fresh = resumed.params.training_collector.reset()[0]
        resumed.reset()
        assert bits(dict(resumed.algorithm.state_dict())) == bits(saved["algorithm"])
        assert bits(generator_states()) == bits(saved["run"]["generators"])
        assert resumed._current_update_step == 2
        assert resumed._env_step == 2 * ROLLOUT
        observations.append(resumed.params.training_collector._pre_collect_obs_RO)
        assert not np.array_equal(observations[-1], fresh)
    assert np.array_equal(*observations)  # seeded from the checkpoint
    assert resumed.run().update_step == UPDATES
    resumed.params.training_collector.env.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"hidden": (9,)}, "size mismatch"),
        ({"task": "CartPole-v1"}, "CartPoleEnv"),
        ({"normalised": False}, "must have 1 VectorEnvNormObs around them, got 0"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_and_all_is_as_it_was(tmp_path, whole, spoil, said):
    folder, _ = whole
    shutil.copy(folder / "update_000003.ckpt", tmp_path)
    trainer = trainer_of(tmp_path, **spoil)
    before = bits([dict(trainer.algorithm.state_dict()), generator_states(), trainer._env_step])
    with pytest.raises(ValueError, match=said):
        trainer.run()
    assert bits([dict(trainer.algorithm.state_dict()), generator_states(), trainer._env_step]) == before
    assert checkpoints(tmp_path) == ["update_000003.ckpt"]


def test_after_a_damaged_newest_checkpoint_the_one_before_is_loaded(tmp_path, whole):
    folder, trainer = whole
    for name in ("update_000002.ckpt", "update_000003.ckpt"):
        shutil.copy(folder / name, tmp_path)
    damaged = tmp_path / "update_000003.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    resumed = trainer_of(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"checkpoint passed over: .*update_000003.ckpt holds \d+ of \d+ bytes"):
        resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))
    assert (tmp_path / "update_000003.unreadable").exists()


def test_a_run_does_not_begin_anew_over_checkpoints_that_it_cannot_read(tmp_path):
    (tmp_path / "update_000003.ckpt").write_bytes(b"TRPO-TS\n broken")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be loaded: .* truncated within its header"):
        trainer_of(tmp_path).run()
    assert checkpoints(tmp_path) == ["update_000003.ckpt"]


@pytest.mark.parametrize(
    ("kwargs", "params", "said"),
    [
        ({"every": 0}, {}, "every must be an integer >= 1"),
        ({"keep": 0}, {}, "keep must be an integer >= 1"),
        ({}, {"resume_from_log": True}, "params.resume_from_log must be False"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, kwargs, params, said):
    algorithm, trainer_params = make_run()
    for name, value in params.items():
        setattr(trainer_params, name, value)
    with pytest.raises(ValueError, match=said):
        ResumableTrainer(algorithm, trainer_params, tmp_path, **kwargs)


def test_a_killed_process_resumes_to_the_same_end(tmp_path, whole):
    epochs, folder = 8, tmp_path / "killed"
    uninterrupted = trainer_of(tmp_path / "whole", max_epochs=epochs)
    uninterrupted.run()
    # Forked, because a new interpreter compiles Tianshou's estimator anew, for many seconds.
    child = multiprocessing.get_context("fork").Process(target=lambda: trainer_of(folder, max_epochs=epochs).run())
    child.start()
    while not (folder / "update_000005.ckpt").exists():
        assert child.is_alive()
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert f"update_{epochs * STEPS // ROLLOUT:06d}.ckpt" not in checkpoints(folder), "the kill came too late"
    resumed = trainer_of(folder, seed=9, max_epochs=epochs)
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(uninterrupted.algorithm.state_dict()))


def test_a_run_with_either_collector_is_the_same_and_one_continues_the_others(tmp_path, whole):
    _, trainer = whole
    run_until(tmp_path, 3, collector=RolloutCollector)
    resumed = trainer_of(tmp_path, seed=9)
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))


def test_the_episodes_of_a_pool_begin_anew_with_other_seeds(tmp_path):
    def pool(functions):
        return as_vector_env(envpool.make_gymnasium("CartPole-v1", num_envs=len(functions), max_episode_steps=20))

    kwargs = {"task": "CartPole-v1", "vector": pool, "collector": RolloutCollector}
    run_until(tmp_path, 2, **kwargs)
    resumed = trainer_of(tmp_path, seed=0, **kwargs)
    before = resumed.params.training_collector.env.venv.venv.venv.config["env_seed"]
    resumed.run()
    after = resumed.params.training_collector.env.venv.venv.venv.config["env_seed"]
    assert len(set(after) | set(before)) == len(after) + len(before)
    assert resumed._current_update_step == UPDATES
