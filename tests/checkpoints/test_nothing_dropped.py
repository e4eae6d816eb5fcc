"""What a learner or an update needs is never left out without a word: statistics, rows of a rollout."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from rollouts import make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from runs import ENVS, HORIZON, bits, make_run
from tianshou.data import Collector, CollectStats, ReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint, save_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.training import trainer_params


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A learner with observation statistics, and its checkpoint."""
    algorithm, params = make_run(tests=False)
    envs = params.training_collector.env
    params.training_collector.reset()
    return algorithm, envs, save_checkpoint(tmp_path_factory.mktemp("a") / "a.ckpt", algorithm=algorithm, envs=envs)


def test_observation_statistics_are_not_left_out_without_a_word(saved):
    algorithm, params = make_run(seed=1, tests=False)
    before = bits(dict(algorithm.state_dict()))
    with pytest.raises(ValueError, match=r"envs must be given.*pass envs=.* or ignore_observation_statistics=True"):
        load_checkpoint(saved[2], algorithm=algorithm)
    assert bits(dict(algorithm.state_dict())) == before
    load_checkpoint(saved[2], algorithm=algorithm, envs=params.training_collector.env)
    assert bits(params.training_collector.env.obs_rms.mean) == bits(saved[1].obs_rms.mean)


def test_observation_statistics_are_left_out_if_asked_for(saved):
    algorithm, params = make_run(seed=1, tests=False)
    envs = params.training_collector.env
    before = bits(envs.obs_rms.mean)
    for given in (None, envs):
        load_checkpoint(saved[2], algorithm=algorithm, envs=given, ignore_observation_statistics=True)
        assert bits(dict(algorithm.state_dict())) == bits(dict(saved[0].state_dict()))
    assert bits(envs.obs_rms.mean) == before


def test_a_learner_without_statistics_needs_no_environments(tmp_path):
    algorithm, _ = make_run(normalised=False, tests=False)
    load_checkpoint(save_checkpoint(tmp_path / "a.ckpt", algorithm=algorithm), algorithm=algorithm)


def test_environments_whose_statistics_were_not_saved_are_told_how_they_would_be(tmp_path):
    algorithm, params = make_run(tests=False)
    path = save_checkpoint(tmp_path / "a.ckpt", algorithm=algorithm)
    said = r"must have 0 VectorEnvNormObs around them, got 1; save_checkpoint\(envs=...\) saves their statistics"
    with pytest.raises(ValueError, match=said):
        load_checkpoint(path, algorithm=algorithm, envs=params.training_collector.env)


def test_statistics_of_another_observation_are_refused(saved, tmp_path):
    state = read_file(saved[2])
    state["observation_statistics"][0].update(mean=np.zeros(3), var=np.ones(3))
    path = write_file(tmp_path / "a.ckpt", state)
    with pytest.raises(ValueError, match=r"the observation statistics must be of shape \(3,\), got \(2,\)"):
        load_checkpoint(path, algorithm=saved[0], envs=saved[1])


def run_with(buffer, envs=ENVS, **params):
    """Return an algorithm and the arguments of trainer parameters with another buffer."""
    algorithm, run = make_run(tests=False, normalised=False)
    vector = run.training_collector.env
    if envs != ENVS:
        vector = DummyVectorEnv([lambda: gym.make("PointMass1D-v0", max_episode_steps=HORIZON)] * envs)
    collector = Collector[CollectStats](algorithm, vector, buffer)
    defaults = {"epoch_num_steps": 4096, "max_epochs": 1, "verbose": False, "show_progress": False}
    return algorithm, {"training_collector": collector, **defaults, **params}


def by_trainer_params(algorithm, arguments, folder):
    trainer_params(**arguments)


def by_run_training(algorithm, arguments, folder):
    algorithm.run_training(OnPolicyTrainerParams(**arguments))


def by_create_trainer(algorithm, arguments, folder):
    algorithm.create_trainer(OnPolicyTrainerParams(**arguments))


def by_resumable_trainer(algorithm, arguments, folder):
    ResumableTrainer(algorithm, OnPolicyTrainerParams(**arguments), folder)


EVERYWHERE = [by_trainer_params, by_run_training, by_create_trainer, by_resumable_trainer]


@pytest.mark.parametrize("call", EVERYWHERE)
@pytest.mark.parametrize(
    ("buffer", "envs", "steps", "said"),
    [
        (lambda: VectorReplayBuffer(256, ENVS), ENVS, 2048, r"= 2048 steps .* got room for 256 of 4 .*\(2048, 4\)"),
        (lambda: VectorReplayBuffer(2044, ENVS), ENVS, 2048, r"= 2048 steps .* got room for 2044 of 4 environments"),
        (lambda: VectorReplayBuffer(64, 8), ENVS, 64, r"= 64 steps .* got room for 32 of 4 environments"),
        (lambda: VectorReplayBuffer(32, ENVS), ENVS, 33, r"= 33 steps .* got room for 32 .*\(36, 4\)"),
        (lambda: ReplayBuffer(100), 1, 101, "= 101 steps .* got room for 100:"),
    ],
)
def test_a_buffer_smaller_than_a_rollout_is_refused_wherever_it_is_met(tmp_path, call, buffer, envs, steps, said):
    algorithm, arguments = run_with(buffer(), envs, collection_step_num_env_steps=steps)
    before = bits(dict(algorithm.state_dict()))
    with pytest.raises(
        ValueError, match=f"training_collector.buffer must hold the collection_step_num_env_steps {said}"
    ):
        call(algorithm, arguments, tmp_path / "run")
    assert bits(dict(algorithm.state_dict())) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("call", EVERYWHERE[:1] + EVERYWHERE[2:])
def test_a_buffer_that_just_holds_a_rollout_is_taken(tmp_path, call):
    call(*run_with(VectorReplayBuffer(32, ENVS), collection_step_num_env_steps=32), tmp_path)
    call(*run_with(VectorReplayBuffer(36, ENVS), collection_step_num_env_steps=33), tmp_path)
    call(*run_with(ReplayBuffer(100), 1, collection_step_num_env_steps=100), tmp_path)


@pytest.mark.parametrize("resumable", [False, True])
def test_whole_episodes_that_do_not_fit_are_an_error_before_the_update(tmp_path, resumable):
    episodes = {"collection_step_num_env_steps": None, "collection_step_num_episodes": ENVS}
    algorithm, arguments = run_with(VectorReplayBuffer(HORIZON * ENVS // 2, ENVS), **episodes)
    before = bits(dict(algorithm.state_dict()))
    params = OnPolicyTrainerParams(**arguments)
    trainer = ResumableTrainer(algorithm, params, tmp_path) if resumable else algorithm.create_trainer(params)
    said = f"must hold the {HORIZON * ENVS} steps that were collected, got room for {HORIZON * ENVS // 2}"
    with pytest.raises(ValueError, match=said):
        trainer.run()
    assert bits(dict(algorithm.state_dict())) == before


def test_a_loop_of_ones_own_is_told_where_the_buffer_shows_it():
    algorithm = make_trpo(make_actor_policy())
    buffer = make_rollout(algorithm.policy, n_envs=2, length=16)
    update(algorithm, buffer)
    rows = buffer[np.array([0, 16])]
    buffer.add(rows, buffer_ids=np.arange(2))
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match="buffer must hold the whole rollout, got one whose 16 rows per environment"):
        update(algorithm, buffer)
    assert same(before, algorithm)
    buffer.reset(keep_statistics=True)
    buffer.add(rows, buffer_ids=np.arange(2))
    update(algorithm, buffer)
