"""What helps a training: trainer parameters, logger, schedule, environments whose numbers are checked."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from runs import ENVS, HORIZON, ROLLOUT, STEPS, UPDATES, bits, make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts.training import FiniteVectorEnv, LinearDecay, tensorboard_logger, trainer_params


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
    return np.array([positions, velocities], np.float32).T


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


def test_the_logger_writes_every_update_and_saves_after_every_epoch(tmp_path):
    saved = []
    algorithm, params = make_run(
        logger=tensorboard_logger(tmp_path),
        save_checkpoint_fn=lambda epoch, env_step, update: saved.append((epoch, env_step, update)) or "",
    )
    algorithm.run_training(params)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("update/kl/mean")] == list(range(1, UPDATES + 1))
    assert len(events.Scalars("training/n_collected_steps")) == UPDATES
    assert saved == [(1, STEPS, 3), (2, 2 * STEPS, 6)]


def rates(schedule, updates):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=0.5)
    scheduler = schedule.create_scheduler(optimizer)
    values = []
    for _ in range(updates):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("final_factor", [0.0, 0.25, 1.0])
def test_a_linear_decay_falls_over_the_planned_updates_and_stays(final_factor):
    values = rates(LinearDecay(2, 100, 32, final_factor), 12)  # 2 epochs of 4 updates
    planned = [0.5 * (1.0 - (1.0 - final_factor) * min(n, 8) / 8) for n in range(12)]
    assert values == pytest.approx(planned, abs=1e-15)
    assert all(type(value) is float and value >= 0.0 for value in values)


def test_a_training_beyond_the_plan_goes_on_with_a_rate_that_is_not_negative():
    algorithm, params = make_run(max_epochs=4, tests=False)  # the schedule is for two
    algorithm.run_training(params)
    assert algorithm.optim._optim.param_groups[0]["lr"] == 0.0
    assert all(torch.isfinite(p).all() for p in algorithm.parameters())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 1, 1), "max_epochs"),
        ((1, 0, 1), "epoch_num_steps"),
        ((1, 1, 0), "collection_step"),
        ((1, 1, 1, 2), "final"),
    ],
)
def test_a_schedule_checks_its_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        LinearDecay(*arguments)


class Faulty(gym.Env):
    """A random walk that gives a wrong number at one step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, field=None, value=np.nan, at=10):
        self.field, self.value, self.at, self.steps = field, value, at, 0

    def observation(self):
        obs = self.np_random.normal(size=2).astype(np.float32)
        if self.field == "observation" and self.steps == self.at:
            obs[1] = self.value
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        reward = self.value if self.field == "reward" and self.steps == self.at else float(action[0])
        return self.observation(), reward, False, self.steps % HORIZON == 0, {}


gym.register("Faulty-v0", entry_point=Faulty)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["observation", "reward"])
def test_a_number_that_is_not_finite_is_stopped_at_its_source(field, value):
    environments = [Faulty] * (ENVS - 1) + [lambda: Faulty(field, value)]
    algorithm, params = make_run("Faulty-v0", vector=lambda _: DummyVectorEnv(environments), tests=False)
    envs = params.training_collector.env
    before = bits(dict(algorithm.state_dict()))
    said = f"the {field} of an environment must be finite, got .*{value}.* from environment {ENVS - 1} after 10 steps"
    params.epoch_num_steps = params.collection_step_num_env_steps = 20 * ENVS
    with pytest.raises(ValueError, match=said):
        algorithm.run_training(params)
    assert bits(dict(algorithm.state_dict())) == before
    assert np.isfinite(envs.obs_rms.mean).all()
    assert np.isfinite(envs.obs_rms.var).all()


def test_a_first_observation_is_checked_too():
    envs = FiniteVectorEnv(DummyVectorEnv([Faulty, lambda: Faulty("observation", at=0)]))
    with pytest.raises(ValueError, match="from environment 1 after 0 steps"):
        VectorEnvNormObs(envs).reset()
    with pytest.raises(ValueError, match="from environment 1 after"):
        envs.reset([1])


class Nested(Faulty):
    observation_space = gym.spaces.Dict(
        position=Faulty.observation_space, image=gym.spaces.Box(0, 255, (2, 2), np.uint8)
    )

    def observation(self):
        return {"position": super().observation(), "image": np.zeros((2, 2), np.uint8)}


def test_dictionaries_are_looked_into_and_sound_steps_pass_unchanged():
    envs = FiniteVectorEnv(DummyVectorEnv([Nested, lambda: Nested("observation", at=2)]))
    twin = DummyVectorEnv([Nested, Nested])
    envs.seed(0)
    twin.seed(0)
    assert bits(envs.reset()) == bits(twin.reset())
    action = np.zeros((2, 1), np.float32)
    assert bits(envs.step(action)) == bits(twin.step(action))
    assert bits(envs.step(action[:1], [0])) == bits(twin.step(action[:1], [0]))
    with pytest.raises(ValueError, match=r"(?s)position.*nan.*from environment 1"):
        envs.step(action)


def test_the_optimiser_factory_takes_the_schedule():
    factory = AdamOptimizerFactory(lr=0.5).with_lr_scheduler_factory(LinearDecay(1, STEPS, ROLLOUT))
    optimizer, scheduler = factory.create_instances(torch.nn.Linear(1, 1))
    assert scheduler is not None
    assert optimizer.param_groups[0]["lr"] == 0.5
