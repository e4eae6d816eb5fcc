"""Checkpoints: what is loaded is what was saved, and a run that goes on is the run that was never stopped."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import deque
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from runs import ENVS, HORIZON, ROLLOUT, STEPS, UPDATES, bits, make_run, timeless
from tianshou.algorithm import TRPO as TianshouTRPO
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear
from tianshou.data import Batch
from tianshou.env import SubprocVectorEnv

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint, save_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.environments import environment_state, set_environment_state
from trpo_ts.checkpoints.generators import generator_states, set_generator_states
from trpo_ts.checkpoints.packing import pack, unpack


class Stopped(Exception):
    pass


def trainer_of(folder, *, every=1, keep=100, stop_after=None, **kwargs):
    """Return a trainer; with ``stop_after``, its run ends in an error at the beginning of that training step."""
    steps = 0

    def training_fn(epoch, env_step):
        nonlocal steps
        steps += 1
        if stop_after is not None and steps > stop_after:
            raise Stopped

    algorithm, params = make_run(training_fn=training_fn, **kwargs)
    return ResumableTrainer(algorithm, params, folder, every=every, keep=keep)


def run_until(folder, stop_after, **kwargs):
    trainer = trainer_of(folder, stop_after=stop_after, **kwargs)
    with pytest.raises(Stopped):
        trainer.run()
    return trainer


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob("*.ckpt"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder and its trainer."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(folder)
    trainer.run()
    return folder, trainer


VALUES = [
    None,
    True,
    3,
    2**127,
    -1.5,
    float("inf"),
    "text",
    np.float64(0.1),
    np.int32(4),
    np.bool_(True),
    np.array([1.0, np.nan], np.float32),
    np.zeros((0, 3)),
    np.arange(4, dtype=np.uint32),
    np.array("a name"),
    np.array([{"a": np.float32(1.0)}, {}], dtype=object),
    torch.tensor([[1.0, -0.0]], dtype=torch.bfloat16),
    (1, [2.0, {"a": (None,), 0: "b"}]),
    deque([1.0, 2.0], maxlen=5),
    Batch(a=np.ones(2), b=Batch(c=np.zeros(2))),
    random.getstate(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_survives_a_file_with_its_type(tmp_path, value):
    back = read_file(write_file(tmp_path / "a.ckpt", {"value": value}))["value"]
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if isinstance(value, np.ndarray | np.generic):
        assert back.dtype == value.dtype
    if isinstance(value, deque):
        assert back.maxlen == value.maxlen


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_generators_go_on_where_they_were(tmp_path, name):
    generator = np.random.Generator(getattr(np.random, name)(7))
    generator.normal(size=3)
    back = read_file(write_file(tmp_path / "a.ckpt", {"value": generator}))["value"]
    assert (back.normal(size=5) == generator.normal(size=5)).all()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [object()]}, r"state\['a'\]\[0\] is of type object"),
        ({"a": {1.5: 0}}, r"state\['a'\] has the key 1.5"),
        ({"a": {"__kind__": 0}}, "has the key '__kind__'"),
        ({"a": {1, 2}}, "is of type set"),
        ({"a": np.array([object()])}, r"state\['a'\].flat\[0\]"),
        ({"a": np.zeros(1, dtype=[("x", "f4")])}, "array of dtype"),
    ],
)
def test_what_cannot_be_written_down_is_named_and_the_file_stays(tmp_path, value, said):
    path = write_file(tmp_path / "a.ckpt", {"old": 1})
    with pytest.raises(ValueError, match=said):
        write_file(path, value)
    assert read_file(path) == {"old": 1}


@pytest.mark.parametrize("value", [{"__kind__": "code"}, {"__kind__": "array"}, {"__kind__": []}])
def test_marks_that_nothing_made_are_refused(value):
    with pytest.raises(ValueError, match="a checkpoint holds no"):
        unpack(value)


def test_packed_values_share_nothing():
    array, tensor = np.zeros(2), torch.zeros(2)
    packed = pack([array, tensor])
    array += 1.0
    tensor += 1.0
    assert [bits(value) for value in unpack(packed)] == [bits(np.zeros(2)), bits(torch.zeros(2))]


def test_a_learner_is_loaded_bit_for_bit_and_nothing_else_is_touched(tmp_path, whole):
    _, trainer = whole
    envs = trainer.params.training_collector.env
    path = save_checkpoint(tmp_path / "a" / "learner.ckpt", algorithm=trainer.algorithm, envs=envs)
    algorithm, params = make_run(seed=3)
    others = params.training_collector.env
    generators = bits(generator_states())
    assert load_checkpoint(path, algorithm=algorithm, envs=others) == {}
    assert bits(generator_states()) == generators
    assert bits(dict(algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))
    for statistics in ("mean", "var", "count"):
        assert bits(getattr(others.obs_rms, statistics)) == bits(getattr(envs.obs_rms, statistics))
    assert params.test_collector.env.obs_rms is others.obs_rms
    with pytest.raises(ValueError, match="holds a learner and no run to go on with; load it without trainer"):
        load_checkpoint(path, algorithm=algorithm, trainer=ResumableTrainer(algorithm, params, tmp_path))


def test_numpy_numbers_in_the_optimiser_do_not_spoil_the_file(tmp_path):
    """Tianshou's linear schedule makes the learning rate a np.float64, which the safe loader of torch refuses."""
    algorithm, params = make_run(tests=False)
    optim = AdamOptimizerFactory(lr=1e-2).with_lr_scheduler_factory(LRSchedulerFactoryLinear(2, STEPS, ROLLOUT))
    theirs = TianshouTRPO(policy=algorithm.policy, critic=algorithm.critic, optim=optim)
    params.max_epochs = 1
    theirs.run_training(params)
    assert isinstance(theirs.optim._optim.param_groups[0]["lr"], np.float64)
    path = save_checkpoint(tmp_path / "a.ckpt", algorithm=theirs)
    before = bits(dict(theirs.state_dict()))
    load_checkpoint(path, algorithm=theirs)
    assert bits(dict(theirs.state_dict())) == before


@pytest.mark.parametrize("update", [0, 2, 3, 4])
def test_a_run_that_goes_on_equals_the_one_that_was_never_stopped(tmp_path, whole, update):
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
    ],
    ids=str,
)
def test_so_does_one_with_other_environments_and_whole_episodes(tmp_path, kwargs):
    trainer = trainer_of(tmp_path / "whole", **kwargs)
    trainer.run()
    run_until(tmp_path / "stopped", 2, **kwargs)
    resumed = trainer_of(tmp_path / "stopped", seed=9, **kwargs)
    resumed.run()
    last = [name for name in checkpoints(tmp_path / "whole") if name.startswith("update")][-1]
    first, second = (timeless(read_file(tmp_path / folder / last)) for folder in ("whole", "stopped"))
    assert bits(first) == bits(second)


def test_a_finished_run_stays_as_it_is_and_goes_on_when_more_epochs_are_asked_for(tmp_path, whole):
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


def test_so_does_one_with_a_physics_engine(tmp_path):
    pytest.importorskip("mujoco")
    kwargs = {"task": "Ant-v5", "tests": False}
    trainer = trainer_of(tmp_path / "whole", **kwargs)
    trainer.run()
    run_until(tmp_path / "stopped", 2, **kwargs)
    assert read_file(tmp_path / "stopped" / "update_000002.ckpt")["run"]["collectors"]["training"]["episodes"]
    resumed = trainer_of(tmp_path / "stopped", seed=9, **kwargs)
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))


class Opaque(gym.Env):
    """An environment that holds what cannot be written down, as a simulator's memory."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self):
        self.simulator = memoryview(bytearray(4))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), {}

    def step(self, action):
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), float(action[0]), False, False, {}


gym.register("Opaque-v0", entry_point=Opaque)


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


def test_environments_are_restored_with_their_wrappers(tmp_path):
    def make():
        env = gym.make("CartPole-v1", max_episode_steps=HORIZON)
        return gym.wrappers.RecordEpisodeStatistics(gym.wrappers.TransformReward(env, np.tanh))

    env, other = make(), make()
    env.action_space.seed(3)
    other.reset(seed=1)
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    set_environment_state(other, unpack(pack(environment_state(env))))
    done = False
    while not done:
        action = env.action_space.sample()
        assert action == other.action_space.sample()
        (obs, reward, terminated, truncated, info), step = env.step(action), other.step(action)
        assert np.array_equal(obs, step[0])
        assert (reward, terminated, truncated) == step[1:4]
        assert info.get("episode", {}).get("l") == step[4].get("episode", {}).get("l")
        done = terminated or truncated
    assert np.array_equal(env.reset()[0], other.reset()[0])


class Aliased(Opaque):
    def __init__(self):
        self.state = np.zeros(4)
        self.velocity = self.state[2:]


class Closed(Opaque):
    def __init__(self):
        count = 0

        def counter():
            nonlocal count
            count += 1

        self.counter = counter


class Unclear(Opaque):
    def __init__(self):
        self.count = 0

    def get_state(self):
        return np.zeros(2)

    def set_state(self, position, velocity):
        raise AssertionError


@pytest.mark.parametrize("make", [Opaque, Aliased, Closed, Unclear])
def test_an_environment_that_would_not_come_back_exactly_is_not_written_down(make):
    env = make()
    env.reset(seed=0)
    assert environment_state(env) is None


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


def test_other_environments_are_refused_by_name(tmp_path, whole):
    folder, _ = whole
    trainer = trainer_of(tmp_path)
    state = read_file(folder / "update_000003.ckpt")
    state["run"]["collectors"]["training"]["count"] = 7
    path = write_file(tmp_path / "a.ckpt", state)
    with pytest.raises(ValueError, match=f"must have 7 environments, got {ENVS}"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    state["run"]["collectors"]["training"]["count"] = ENVS
    state["run"]["collectors"]["training"]["episodes"]["environments"][0][-1]["class"] = "other.Env"
    write_file(path, state)
    with pytest.raises(ValueError, match=r"the environments must be \[.*other.Env"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    del state["run"]["collectors"]["test"]
    state["run"]["collectors"]["training"]["episodes"] = None
    write_file(path, state)
    with pytest.raises(ValueError, match="saved without a test collector"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, whole):
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


def test_a_process_that_is_killed_goes_on_to_the_same_end(tmp_path, whole):
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


def test_the_generators_of_as_many_devices_as_there_are_go_on(monkeypatch):
    devices = {0: torch.zeros(4, dtype=torch.uint8), 1: torch.ones(4, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(devices.values()))
    states = generator_states()
    restored = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.update({device: state}))
    set_generator_states(states)
    assert bits(restored) == bits({0: devices[0]})
