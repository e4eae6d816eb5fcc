"""The recorder as a logger of Tianshou."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import tianshou.algorithm
import torch
from recorded import collected, headings, summary
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.logger.logger_base import BaseLogger, LazyLogger
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

from trpo_ts.diagnostics import (
    EvaluationRecord,
    TrainingRecorder,
    UpdateRecord,
    learning_figure,
    load_records,
    save_records,
)


def test_recorder_joins_update_and_collect_in_the_trainers_order():
    recorder = TrainingRecorder()
    recorder.log_test_data(collected(5.0, 7.0), 0)
    stats = {"kl": summary(0.5), "step_size": 0.25, "accepted": True, "policy_std": None, "train_time": 1.5}
    recorder.log_update_data({**stats, "smoothed_loss": {"kl": 9.0}, "vf_loss": math.nan, "foreign": 1.0}, 1)
    assert recorder.updates == []
    recorder.log_training_data(collected(1.0, 3.0), 1024)
    recorder.log_update_data({"kl": np.float32(0.25)}, 2)
    recorder.log_training_data(collected(), np.int64(2048))
    first = UpdateRecord(1, 1024, (1.0, 3.0), kl=0.5, step_size=0.25, accepted=1.0, train_time=1.5)
    assert recorder.updates == [first, UpdateRecord(2, 2048, kl=0.25)]
    assert recorder.tests == [EvaluationRecord(0, (5.0, 7.0))]


def test_recorder_keeps_every_step_whatever_the_intervals():
    recorder = TrainingRecorder()
    for step in range(1, 6):
        recorder.log_update_data({"kl": 0.1 * step}, step)
        recorder.log_training_data(collected(), step)
    assert [(update.iteration, update.env_steps) for update in recorder.updates] == [(n, n) for n in range(1, 6)]


def test_a_step_with_several_updates_is_their_mean():
    recorder = TrainingRecorder()
    for kl in (0.25, 0.75):
        recorder.log_update_data({"kl": kl, "train_time": 2.0}, 1)
    recorder.log_training_data(collected(), 10)
    assert recorder.updates == [UpdateRecord(1, 10, kl=0.5, train_time=4.0)]


def test_a_step_without_update_is_recorded_and_takes_nothing_from_others():
    recorder = TrainingRecorder()
    recorder.log_update_data({"kl": 0.1}, 7)
    recorder.log_training_data(collected(), 10)
    recorder.log_training_data(collected(2.0), 20)
    assert recorder.updates[1:] == [UpdateRecord(8, 20, (2.0,))]


def test_an_offline_trainers_calls_leave_evaluations_only():
    recorder = TrainingRecorder()
    for step in range(1, 100):
        recorder.log_update_data({"loss": summary(0.1), "kl": 1.0}, step)
    recorder.log_test_data(collected(1.0), 64)
    assert recorder.updates == []
    assert recorder.tests == [EvaluationRecord(64, (1.0,))]
    # An interrupted step does not leak into the next run either.
    recorder.log_update_data({}, 1)
    recorder.log_training_data({"n_collected_steps": 5}, 5)
    assert recorder.updates == [UpdateRecord(1, 5)]


def test_returns_that_are_not_finite_or_of_several_agents_do_not_stop_training():
    recorder = TrainingRecorder()
    recorder.log_training_data({"returns": np.array([1.0, np.inf, np.nan])}, 5)
    recorder.log_training_data({"returns": np.array([[1.0, 3.0], [2.0, 6.0]])}, 10)
    recorder.log_test_data({"returns": np.array([np.nan])}, 10)
    assert [update.episode_returns for update in recorder.updates] == [(1.0,), (2.0, 4.0)]
    assert recorder.tests == []


class SpyLogger(LazyLogger):
    def __init__(self):
        super().__init__()
        self.calls = []

    def log_update_data(self, log_data, step):
        self.calls.append(("update", step))

    def log_training_data(self, log_data, step):
        self.calls.append(("training", step))

    def log_test_data(self, log_data, step):
        self.calls.append(("test", step))

    def log_info_data(self, log_data, step):
        self.calls.append(("info", step))

    def prepare_dict_for_logging(self, data):
        return {"prepared": 1}

    def write(self, step_type, step, data):
        self.calls.append((step_type, step))

    def finalize(self):
        self.calls.append("finalize")

    def save_data(self, epoch, env_step, update_step, save_checkpoint_fn=None):
        self.calls.append(("save", epoch, env_step, update_step, save_checkpoint_fn))

    def restore_data(self):
        return 3, 2, 1


def test_every_call_is_forwarded():
    spy = SpyLogger()
    recorder = TrainingRecorder(forward_to=spy)
    recorder.log_test_data(collected(1.0), 0)
    recorder.log_update_data({"kl": 0.1}, 1)
    recorder.log_training_data(collected(), 10)
    recorder.log_info_data({}, 1)
    recorder.write("extra/step", 4, {})
    recorder.save_data(1, 10, 1, str)
    recorder.finalize()
    expected = [("test", 0), ("update", 1), ("training", 10), ("info", 1), ("extra/step", 4)]
    assert spy.calls == [*expected, ("save", 1, 10, 1, str), "finalize"]
    assert recorder.restore_data() == (3, 2, 1)
    assert recorder.prepare_dict_for_logging({"a": 1}) == {"prepared": 1}
    assert recorder.updates == [UpdateRecord(1, 10, kl=0.1)]


def test_without_a_further_logger_checkpoints_are_saved():
    recorder, saved = TrainingRecorder(), []
    recorder.save_data(1, 10, 2, lambda *counters: saved.append(counters) or "path")
    recorder.save_data(2, 20, 4)
    recorder.log_info_data({}, 1)
    recorder.write("extra/step", 4, {})
    recorder.finalize()
    assert saved == [(1, 10, 2)]
    assert recorder.restore_data() == (0, 0, 0)
    assert recorder.prepare_dict_for_logging({"a": 1}) == {"a": 1}
    with pytest.raises(NotImplementedError, match="load_records"):
        TrainingRecorder.restore_logged_data("somewhere")


def tianshou_trpo_on_cartpole(logger: BaseLogger, **params) -> None:
    torch.manual_seed(0)
    env = gym.make("CartPole-v1")
    features = (Net(state_shape=env.observation_space.shape, hidden_sizes=[16]) for _ in range(2))
    policy = ProbabilisticActorPolicy(
        actor=DiscreteActor(preprocess_net=next(features), action_shape=2, softmax_output=False),
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
        action_space=env.action_space,
        action_scaling=False,
    )
    algorithm = tianshou.algorithm.TRPO(
        policy=policy, critic=DiscreteCritic(preprocess_net=next(features)), optim=AdamOptimizerFactory(lr=1e-3)
    )
    envs = [DummyVectorEnv([lambda: gym.make("CartPole-v1")] * 2) for _ in range(2)]
    for vector_env in envs:
        vector_env.seed(0)
    algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=Collector(algorithm, envs[0], VectorReplayBuffer(1000, 2)),
            test_collector=Collector(algorithm, envs[1]),
            test_step_num_episodes=2,
            max_epochs=1,
            epoch_num_steps=400,
            batch_size=None,
            logger=logger,
            verbose=False,
            show_progress=False,
            **params,
        )
    )


def test_recorder_takes_a_real_training_of_tianshous_own_trpo(tmp_path):
    spy = SpyLogger()
    recorder = TrainingRecorder(forward_to=spy)
    tianshou_trpo_on_cartpole(recorder, collection_step_num_env_steps=200, save_checkpoint_fn=str)
    assert [(update.iteration, update.env_steps) for update in recorder.updates] == [(1, 200), (2, 400)]
    for update in recorder.updates:
        assert 0.0 < update.kl <= 0.01
        assert None not in (update.step_size, update.actor_loss, update.vf_loss)
        assert update.step_fraction is None
        assert update.train_time > 0.0
        assert all(value >= 1.0 for value in update.episode_returns)
    assert len(recorder.updates[0].episode_returns) > 1
    assert [(test.env_steps, len(test.episode_returns)) for test in recorder.tests] == [(0, 2), (400, 2)]
    order = ["test", "update", "training", "update", "training", "save", "test", "info"]
    assert [call[0] for call in spy.calls] == order
    assert load_records(save_records(tmp_path / "r", recorder.updates)) == recorder.updates
    figure = learning_figure(recorder.updates, max_kl=0.01, tests=recorder.tests)
    assert [heading.split()[0] for heading in headings(figure)] == ["Return:", "Mean"]


def test_recorder_alone_takes_a_training_that_collects_by_episodes():
    recorder, saved = TrainingRecorder(), []
    tianshou_trpo_on_cartpole(
        recorder,
        collection_step_num_env_steps=None,
        collection_step_num_episodes=10,
        save_checkpoint_fn=lambda *counters: saved.append(counters) or "",
    )
    assert all(len(update.episode_returns) == 10 for update in recorder.updates)
    assert recorder.updates[-1].env_steps == sum(sum(update.episode_returns) for update in recorder.updates)
    assert saved == [(1, recorder.updates[-1].env_steps, len(recorder.updates))]
