"""Whole runs of the high-level API."""

from __future__ import annotations

import json
from functools import partial

import pytest
from experiments import BUILDERS, algorithms, environments, make_builder
from rliable import library as rly
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.experiment import ExperimentConfig

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.highlevel import TRPOParams


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
