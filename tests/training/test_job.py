"""Whole trainings from the name of a task."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tianshou.env import VectorEnvNormObs

from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.collectors import RolloutCollector
from trpo_ts.critics import GaussNewtonFit
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.training import Job, make_job
from trpo_ts.training.job import build_job
from trpo_ts.training.job_config import JobConfig

TINY = {"num_envs": 2, "segment": 16, "steps": 96, "test_every": 32, "test_episodes": 2, "hidden_sizes": (8,)}


def trained(job: Job) -> tuple[bytes, list[float]]:
    recorder = TrainingRecorder()
    job.params.logger = recorder
    job.algorithm.run_training(job.params)
    job.close()
    weights = b"".join(p.detach().numpy().tobytes() for p in job.algorithm.parameters())
    return weights, [test.return_mean for test in recorder.tests]


def test_a_job_runs_with_tianshous_trainer():
    job = make_job("CartPole-v1", **TINY)
    assert isinstance(job.training_collector, RolloutCollector)
    result = job.algorithm.run_training(job.params)
    assert result.update_step == 3
    assert result.test_episode == 8
    assert result.train_step == 96


def test_a_job_runs_with_the_resumable_trainer(tmp_path):
    job = make_job("CartPole-v1", **TINY)
    ResumableTrainer(job.algorithm, job.params, tmp_path).run()
    assert (tmp_path / "update_000003.ckpt").exists()


def test_a_seed_gives_one_training_and_another_seed_another_one():
    first = trained(make_job("Pendulum-v1", seed=3, **TINY))
    assert trained(make_job("Pendulum-v1", seed=3, **TINY)) == first
    assert trained(make_job("Pendulum-v1", seed=4, **TINY)) != first


def test_the_threads_of_envpool_change_no_result():
    pytest.importorskip("envpool")
    many = {**TINY, "env_backend": "envpool", "num_envs": 16}
    first = trained(make_job("Pendulum-v1", env_threads=1, **many))
    assert trained(make_job("Pendulum-v1", env_threads=2, **many)) == first
    with pytest.raises(ValueError, match="env_threads must be an integer >= 1, got 0"):
        make_job("Pendulum-v1", env_threads=0, **many)
    with pytest.raises(ValueError, match='env_threads=2 is for env_backend="envpool", got "gymnasium"; leave it out'):
        make_job("Pendulum-v1", env_threads=2, **TINY)


def test_the_same_job_is_built_from_its_configuration_as_json():
    job = make_job("Pendulum-v1", seed=3, critic_fit=GaussNewtonFit(steps=2), preconditioner=None, **TINY)
    again = JobConfig.from_dict(json.loads(json.dumps(job.config.as_dict())))
    assert again == job.config
    assert again.settings.critic_fit == repr(GaussNewtonFit(steps=2))
    first = trained(job)
    assert trained(build_job(again)) == first


def test_test_environments_read_the_statistics_of_the_training_ones_and_never_change_them():
    job = make_job("Pendulum-v1", normalise_observations=True, **TINY)
    assert isinstance(job.training_envs, VectorEnvNormObs)
    assert isinstance(job.test_envs, VectorEnvNormObs)
    assert job.test_envs.get_obs_rms() is job.training_envs.get_obs_rms()
    job.training_collector.reset()
    job.training_collector.collect(n_step=32)
    count, mean = job.training_envs.get_obs_rms().count, job.training_envs.get_obs_rms().mean.copy()
    job.test_collector.reset()
    job.test_collector.collect(n_episode=2)
    assert job.training_envs.get_obs_rms().count == count
    np.testing.assert_array_equal(job.training_envs.get_obs_rms().mean, mean)


def test_environments_begin_at_different_places():
    job = make_job("Pendulum-v1", **{**TINY, "num_envs": 6, "test_episodes": 6})
    starts = [tuple(row) for envs in (job.training_envs, job.test_envs) for row in envs.reset()[0]]
    assert len(set(starts)) == 12


def test_every_test_plays_the_same_episodes():
    job = make_job("Pendulum-v1", max_kl=1e-9, **TINY)
    _, tests = trained(job)
    assert len(tests) == 4
    assert tests == pytest.approx([tests[0]] * 4, rel=1e-2)


def test_without_tests_there_are_no_test_environments():
    job = make_job("CartPole-v1", **{**TINY, "test_every": 0})
    assert job.test_envs is job.test_collector is job.params.test_collector is None
    assert (job.params.max_epochs, job.params.epoch_num_steps) == (1, 96)
    assert job.algorithm.run_training(job.params).update_step == 3


def test_trainer_parameters_follow_the_settings():
    job = make_job("CartPole-v1", **{**TINY, "steps": 100, "test_every": 40, "repeat": 2, "batch_size": 8})
    params = job.params
    assert (params.epoch_num_steps, params.max_epochs, params.collection_step_num_env_steps) == (64, 2, 32)
    assert (params.update_step_num_repetitions, params.batch_size, params.test_step_num_episodes) == (2, 8, 2)
    assert params.training_collector.buffer.maxsize == 32


def test_a_memory_is_built_and_carried():
    job = make_job("RepeatPrevious-v0", memory_size=8, **TINY)
    assert job.algorithm.policy.actor.trunk.cell.state_size == 8
    assert (
        make_job("RepeatPrevious-v0", memory="lstm", memory_size=8, **TINY).algorithm.critic.trunk.cell.state_size == 16
    )


def test_atari_games_are_stacks_of_grey_frames():
    pytest.importorskip("ale_py")
    job = make_job("ALE/Pong-v5", num_envs=1, segment=4, steps=4, test_every=0, hidden_sizes=(8,))
    assert job.training_envs.reset()[0].shape == (1, 4, 84, 84)
    assert job.algorithm.run_training(job.params).update_step == 1


def test_global_generators_are_seeded():
    states = []
    for _ in range(2):
        make_job("CartPole-v1", seed=5, **TINY)
        states.append((torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"target_kl": 0.1}, "write max_kl"),
        ({"max_k": 0.1}, "did you mean max_kl"),
        ({"max_kl": -1}, "max_kl must be a number > 0"),
        ({"critic_fit": GaussNewtonFit}, "critic_fit must be one of GaussNewtonFit"),
        ({"critic_fit": "GaussNewtonFit(steps)"}, "by name"),
        ({"hidden_sizes": 64}, "hidden_sizes must be a sequence"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"memory": True}, "memory must be one of"),
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"env_backend": "isaac"}, "env_backend must be one of"),
        ({"preset": "mujoko"}, "did you mean mujoco"),
        ({"normalise_observations": "yes"}, "normalise_observations must be True or False"),
    ],
)
def test_wrong_arguments_are_named(overrides, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make_job("CartPole-v1", **overrides)
