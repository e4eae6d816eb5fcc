"""Trainer parameters for a trust region."""

from __future__ import annotations

import numpy as np
import pytest
from runs import bits, make_run
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts.training import trainer_params


def test_defaults_suit_a_trust_region_and_the_rest_is_tianshous():
    _, run = make_run()
    ours = trainer_params(training_collector=run.training_collector)
    theirs = OnPolicyTrainerParams(training_collector=run.training_collector)
    assert (theirs.batch_size, theirs.test_step_num_episodes) == (64, 1)
    assert (ours.batch_size, ours.test_step_num_episodes) == (None, 10)
    ours.batch_size, ours.test_step_num_episodes = 64, 1
    assert ours == theirs
    assert trainer_params(training_collector=run.training_collector, max_epochs=7).max_epochs == 7


def test_a_test_seed_plays_the_same_episodes_each_time_and_acts_on_their_observations():
    _, run = make_run()
    observations = []
    params = trainer_params(
        training_collector=run.training_collector,
        test_collector=run.test_collector,
        test_seed=5,
        test_step_num_episodes=2,
    )
    for test in range(3):
        run.test_collector.reset(reset_stats=False)
        params.test_fn(test, 0)
        acted_on = run.test_collector._pre_collect_obs_RO
        positions = [worker.env.unwrapped._x for worker in run.test_collector.env.venv.workers]
        assert bits(acted_on) == bits(run.test_collector.env._norm_obs(acted_on_raw(run, positions)))
        observations.append(bits([acted_on, run.test_collector.collect(n_episode=2).returns]))
    assert observations[0] == observations[1] == observations[2]


def acted_on_raw(run, positions):
    velocities = [worker.env.unwrapped._v for worker in run.test_collector.env.venv.workers]
    return np.array([positions, velocities], np.float32).T.copy()


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"test_collector": None, "test_seed": 1}, "test_collector must be a Collector, got NoneType; test_seed seeds"),
        ({"test_seed": -1}, "test_seed must be an integer >= 0"),
        ({"test_seed": 1, "test_fn": lambda *_: None}, "test_seed must be None beside a test_fn"),
    ],
)
def test_a_test_seed_that_cannot_be_used_is_refused(others, said):
    _, run = make_run()
    collectors = {"training_collector": run.training_collector, "test_collector": run.test_collector}
    with pytest.raises(ValueError, match=said):
        trainer_params(**{**collectors, **others})
