"""Environments of every kind: what is recorded is what fresh environments do when they are given the same actions."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from typing import Any

import envpool
import gymnasium as gym
import numpy as np
import pytest
import torch
from collecting import ACTIONS, OBSERVATIONS, Unsteady, assert_equal, collected
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, RayVectorEnv, ShmemVectorEnv, SubprocVectorEnv, VectorEnvNormObs
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts.collectors import RolloutCollector, VectorEnvNormReward, as_vector_env
from trpo_ts.policies import make_policy

ENVS, STEPS = 3, 40
MODES = list(AutoresetMode)


def functions(**settings: Any) -> Any:
    return [lambda: Unsteady(**settings) for _ in range(ENVS)]


def sync(mode: AutoresetMode, **settings: Any) -> Any:
    return SyncVectorEnv(functions(**settings), autoreset_mode=mode)


def asynchronous(mode: AutoresetMode, **settings: Any) -> Any:
    return AsyncVectorEnv(functions(**settings), autoreset_mode=mode)


def in_ray(**settings: Any) -> Any:
    import ray

    if not ray.is_initialized():
        found = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}  # its processes import this file's modules
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, runtime_env=found)
    return RayVectorEnv(functions(**settings))


KINDS: dict[str, Any] = {
    "dummy": lambda **settings: DummyVectorEnv(functions(**settings)),
    "ray": in_ray,
    "subprocesses": lambda **settings: SubprocVectorEnv(functions(**settings)),
    "shared memory": lambda **settings: ShmemVectorEnv(functions(**settings)),
    **{f"sync {mode.name}": lambda mode=mode, **settings: sync(mode, **settings) for mode in MODES},
    **{f"async {mode.name}": lambda mode=mode, **settings: asynchronous(mode, **settings) for mode in MODES},
    "sync without copies": lambda **settings: SyncVectorEnv(functions(**settings), copy=False),
    "async without copies": lambda **settings: AsyncVectorEnv(functions(**settings), copy=False),
    "async without shared memory": lambda **settings: AsyncVectorEnv(
        functions(**settings), shared_memory=False, autoreset_mode=AutoresetMode.SAME_STEP
    ),
}


# Ray's processes take long to start.
RAY = pytest.param(
    "ray",
    marks=[pytest.mark.slow, pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")],
)


def replayed(buffer: Any, make_env: Any, seeds: list[int], first_action: Any) -> int:
    """Give fresh environments the recorded actions, and check all that they return; return how many episodes ended."""
    ended = 0
    for part, seed in zip(buffer.buffers, seeds, strict=True):
        env = make_env()
        obs, _ = env.reset(seed=seed)
        for row in range(len(part)):
            assert_equal_obs(part._meta.obs[row], obs)
            obs, reward, terminated, truncated, _ = env.step(first_action(part.act[row]))
            assert_equal_obs(part._meta.obs_next[row], obs)
            assert (part.rew[row], part.terminated[row], part.truncated[row]) == (reward, terminated, truncated)
            if terminated or truncated:
                ended += 1
                obs, _ = env.reset()
    return ended


def assert_equal_obs(recorded: Any, obs: Any) -> None:
    if isinstance(obs, dict):
        for key, value in obs.items():
            assert_equal_obs(recorded[key], value)
    else:
        np.testing.assert_array_equal(np.asarray(recorded), np.asarray(obs))


@pytest.mark.parametrize("kind", [RAY if name == "ray" else name for name in KINDS])
@pytest.mark.parametrize("obs", ["box", "dict"])
@pytest.mark.parametrize("ends", ["random", "both"])
def test_replaying_the_actions_gives_back_the_recording(kind: str, obs: str, ends: str) -> None:
    policy = make_policy(OBSERVATIONS[obs], ACTIONS["box"])
    collector = RolloutCollector(policy, KINDS[kind](obs=obs, ends=ends), VectorReplayBuffer(ENVS * 100, ENVS))
    # Tianshou gives each environment the one seed, gymnasium's vectors the seeds that follow it.
    seeds = [5] * ENVS if kind in ("dummy", "ray", "subprocesses", "shared memory") else [5, 6, 7]
    collector.reset(gym_reset_kwargs={"seed": 5})
    with policy_within_training_step(policy):
        collector.collect(n_step=STEPS * ENVS)
        collector.collect(n_step=STEPS * ENVS)
    ended = replayed(
        collector.buffer, lambda: Unsteady(obs=obs, ends=ends), seeds, lambda act: policy.map_action(act[None])[0]
    )
    assert ended > 3
    assert len(collector.buffer) == 2 * STEPS * ENVS
    collector.close()


@pytest.mark.parametrize("kind", [name for name in KINDS if "sync" in name])
@pytest.mark.parametrize("infos", ["numbers", "nested", "some", "none"])
def test_gymnasiums_vectors_record_what_tianshous_do(kind: str, infos: str) -> None:
    """But for the dtypes, which gymnasium takes from the spaces, and the episodes, which it seeds in another way."""
    policy = lambda: make_policy(OBSERVATIONS["box"], ACTIONS["box"])  # noqa: E731

    def seeded_dummy() -> Any:
        env = DummyVectorEnv(functions(infos=infos))
        for i, worker in enumerate(env.workers):
            worker.env.reset = _seeded_once(worker.env, 7 + i)  # type: ignore[attr-defined]
        return env

    buffer = lambda: VectorReplayBuffer(ENVS * 400, ENVS)  # noqa: E731
    collects = [{"n_step": 60}, {"n_episode": 7}, {"n_step": 30}]
    theirs = collected(Collector, policy, seeded_dummy, buffer, collects[:1])
    ours = collected(RolloutCollector, policy, lambda: KINDS[kind](infos=infos), buffer, collects[:1])
    for name in ("obs", "act", "rew", "terminated", "truncated", "done", "obs_next"):
        assert_equal(theirs.buffer._meta[name], ours.buffer._meta[name], name)
    for key, value in theirs.buffer._meta.info.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(ours.buffer._meta.info[key]))
    assert_equal(theirs.stats[0].returns, ours.stats[0].returns)
    ours.collector.close()


def _seeded_once(env: Any, seed: int) -> Any:
    reset = env.reset

    def seeded(**kwargs: Any) -> Any:
        return reset(**({**kwargs, "seed": seed} if kwargs.get("seed") is not None else kwargs))

    return seeded


@pytest.mark.parametrize("kind", [name for name in KINDS if "sync" in name])
def test_whole_episodes_of_some_environments(kind: str) -> None:
    """Towards the end of n_episode some environments are left out; what is recorded is whole episodes."""
    policy = make_policy(OBSERVATIONS["box"], ACTIONS["box"])
    collector = RolloutCollector(policy, KINDS[kind](), VectorReplayBuffer(ENVS * 400, ENVS))
    collector.reset(gym_reset_kwargs={"seed": 5})
    with policy_within_training_step(policy):
        stats = collector.collect(n_episode=8)
        again = collector.collect(n_step=30)
    assert stats.n_collected_episodes == 8
    assert stats.lens.sum() == stats.n_collected_steps
    assert again.n_collected_steps == 30
    assert len(collector.buffer) == stats.n_collected_steps + 30
    collector.close()


def test_tianshous_loop_takes_gymnasiums_vectors_too() -> None:
    policy = lambda: make_policy(OBSERVATIONS["dict"], ACTIONS["box"])  # noqa: E731
    buffer = lambda: VectorReplayBuffer(ENVS * 400, ENVS)  # noqa: E731
    runs = [
        collected(kind, policy, lambda: as_vector_env(sync(MODES[0], obs="dict")), buffer, [{"n_step": 60}] * 2)
        for kind in (Collector, RolloutCollector)
    ]
    assert_equal(runs[0].buffer._meta, runs[1].buffer._meta)


def test_without_shared_memory_a_reset_at_the_next_step_is_refused() -> None:
    env = AsyncVectorEnv(functions(), shared_memory=False)
    with pytest.raises(ValueError, match=r"env must have shared_memory=True with AutoresetMode.NEXT_STEP"):
        as_vector_env(env)
    env.close()


def test_other_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SyncVectorEnv or AsyncVectorEnv.* got CartPoleVectorEnv"):
        as_vector_env(gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point"))


def make_pool(task: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return envpool.make_gymnasium(task, num_envs=ENVS, num_threads=1, seed=5, **options)


@pytest.mark.parametrize(
    ("task", "act"), [("CartPole-v1", "discrete"), ("Pendulum-v1", "box"), ("FrozenLake-v1", "discrete")]
)
@pytest.mark.parametrize("collect", [{"n_step": 120}, {"n_episode": 5}])
@pytest.mark.parametrize("double_buffered", [False, True])
def test_envpool_is_replayed(
    task: str, act: str, collect: dict[str, int], double_buffered: bool, recwarn: pytest.WarningsRecorder
) -> None:
    pool = make_pool(task, max_episode_steps=30)
    spaces = pool.observation_space, pool.action_space
    torch.manual_seed(0)
    policy = make_policy(*spaces)
    env = as_vector_env(pool, double_buffered=double_buffered)
    assert len(env.groups) == 1 + double_buffered
    collector = RolloutCollector(policy, env, VectorReplayBuffer(ENVS * 400, ENVS))
    collector.reset()
    recwarn.clear()
    with policy_within_training_step(policy):
        for _ in range(2):
            collector.collect(**collect)
    assert not [w for w in recwarn if "n_step" not in str(w.message)]
    if "n_episode" in collect:
        assert collector.buffer.done.sum() == 10
    else:
        assert_replayed_by_a_pool(collector.buffer, make_pool(task, max_episode_steps=30), policy)


def assert_replayed_by_a_pool(buffer: VectorReplayBuffer, fresh: Any, policy: Any) -> None:
    parts = buffer.buffers
    obs, _ = fresh.reset()
    for row in range(80):
        acts = np.stack([part.act[row] for part in parts])
        np.testing.assert_array_equal(np.stack([part.obs[row] for part in parts]), obs)
        obs, rewards, terminated, truncated, infos = fresh.step(policy.map_action(acts))
        np.testing.assert_array_equal(np.stack([part.obs_next[row] for part in parts]), obs)
        np.testing.assert_array_equal([part.rew[row] for part in parts], rewards.astype(float))
        np.testing.assert_array_equal([part.terminated[row] for part in parts], terminated)
        np.testing.assert_array_equal([part.truncated[row] for part in parts], truncated)
        np.testing.assert_array_equal([part.info.env_id[row] for part in parts], infos["env_id"])
        np.testing.assert_array_equal([part.info.elapsed_step[row] for part in parts], infos["elapsed_step"])
        done = np.flatnonzero(terminated | truncated)
        if done.size:
            obs = obs.copy()
            obs[done] = fresh.reset(done)[0]


@pytest.mark.parametrize("wrap", [lambda env: env, VectorEnvNormObs, VectorEnvNormReward])
def test_both_halves_of_a_double_buffered_pool_collect_the_same_each_time(wrap: Any) -> None:
    def made() -> Any:
        return wrap(as_vector_env(make_pool("Pendulum-v1", max_episode_steps=9), double_buffered=True))

    policy = lambda: make_policy(made().observation_space[0], made().action_space[0])  # noqa: E731
    buffer = lambda: VectorReplayBuffer(ENVS * 400, ENVS)  # noqa: E731
    runs = [
        collected(RolloutCollector, policy, made, buffer, [{"n_step": 60}, {"n_step": 33}, {"n_episode": 5}])
        for _ in range(2)
    ]
    assert_equal(runs[0].buffer._meta, runs[1].buffer._meta)
    assert [stats.n_collected_steps for stats in runs[0].stats][:2] == [60, 33]


def test_one_environment_cannot_be_double_buffered() -> None:
    pool = envpool.make_gymnasium("CartPole-v1", num_envs=1)
    with pytest.raises(ValueError, match="at least 2 environments, got 1"):
        as_vector_env(pool, double_buffered=True)


def test_envpool_within_normalised_observations_is_tianshous() -> None:
    """Tianshou's collector takes EnvPool too, with a flood of warnings."""
    policy = lambda: make_policy(*(lambda e: (e.observation_space, e.action_space))(make_pool("CartPole-v1")))  # noqa: E731
    buffer = lambda: VectorReplayBuffer(ENVS * 400, ENVS)  # noqa: E731
    runs = []
    for kind in (Collector, RolloutCollector):
        torch.manual_seed(0)
        made = policy()
        collector = kind(made, VectorEnvNormObs(make_pool("CartPole-v1", max_episode_steps=9)), buffer())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            collector.reset()
            with policy_within_training_step(made):
                collector.collect(n_step=60)
                collector.collect(n_step=60)
        runs.append(collector)
    assert_equal(runs[0].buffer._meta, runs[1].buffer._meta)
    assert_equal(runs[0].env.obs_rms.mean, runs[1].env.obs_rms.mean)


def test_an_asynchronous_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a synchronous EnvPool, got batch_size=2 of 3 environments"):
        as_vector_env(make_pool("CartPole-v1", batch_size=2))


def test_envpool_is_seeded_as_the_others_are() -> None:
    env, fresh = as_vector_env(make_pool("CartPole-v1")), envpool.make_gymnasium("CartPole-v1", num_envs=ENVS, seed=9)
    first, _ = env.reset(seed=9)
    np.testing.assert_array_equal(first, fresh.reset()[0])
    again, _ = env.reset(seed=[11, 9, 10])
    np.testing.assert_array_equal(again[1:], first[:2])
    with pytest.raises(ValueError, match="takes a seed of all of them, got one of some"):
        env.reset([0], seed=3)
    with pytest.raises(ValueError, match=r"got \['options'\]; give options to envpool.make_gymnasium"):
        env.reset(options={})


def test_an_interrupted_double_buffered_collect_leaves_nothing_under_way() -> None:
    env = as_vector_env(make_pool("CartPole-v1"), double_buffered=True)
    policy = make_policy(env.observation_space[0], env.action_space[0])
    collector = RolloutCollector(policy, env, VectorReplayBuffer(ENVS * 400, ENVS))
    collector.reset()
    acted, act = 0, policy.map_action

    def interrupted(actions: Any) -> Any:
        nonlocal acted
        acted += 1
        if acted == 6:
            raise KeyboardInterrupt
        return act(actions)

    policy.map_action = interrupted
    with pytest.raises(KeyboardInterrupt):
        collector.collect(n_step=60)
    for _ in range(2):
        assert collector.collect(n_step=30).n_collected_steps == 30
        collector.reset()


def test_wrappers_for_vectors_are_refused() -> None:
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics(sync(MODES[0]))
    with pytest.raises(ValueError, match="got it within RecordEpisodeStatistics; wrap the single environments"):
        as_vector_env(wrapped)
