"""Rollouts that are not what was seen, or not drawn from the policy, are refused before anything changes."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from bandit import assert_same, everything
from gymnasium import spaces
from rollouts import make_actor_policy, make_rollout, make_trpo, update
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.env import BaseVectorEnv, DummyVectorEnv, ShmemVectorEnv, SubprocVectorEnv

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy
from trpo_ts.validation.rollout_checks import check_finite

BOX = spaces.Box(-2.0, 2.0, (1,), np.float32)


class Matching(gym.Env[Any, Any]):
    """The reward is highest where the action equals the observation, which is new in every step."""

    observation_space: gym.Space[Any] = BOX
    action_space = BOX

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = -float((action[0] - self.x[0]) ** 2)
        self.steps += 1
        return self.observe(), reward, False, self.steps >= 20, {}

    def observe(self) -> Any:
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x.copy()


class InDict(Matching):
    observation_space = spaces.Dict({"x": BOX})

    def observe(self) -> Any:
        return {"x": super().observe()}


class OwnArrays(InDict):
    """Returns the same arrays in each step."""

    def observe(self) -> Any:
        if not hasattr(self, "own"):
            self.own = {"x": np.zeros(1, np.float32)}
        self.own["x"][:] = Matching.observe(self)
        return self.own


class IntegersFirst(Matching):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.x = np.zeros(1, np.float32)
        return np.zeros(1, int), {}


def learner(env: gym.Env[Any, Any]) -> TRPO:
    torch.manual_seed(0)
    return TRPO(
        policy=make_policy(env.observation_space, env.action_space),
        critic=make_critic(env.observation_space),
        optim=AdamOptimizerFactory(lr=1e-3),
        gamma=0.0,
        max_kl=0.02,
        return_scaling=True,
    )


def train(algorithm: TRPO, envs: BaseVectorEnv, updates: int) -> float:
    """Return the mean reward of the last rollout."""
    envs.seed(0)
    buffer = VectorReplayBuffer(512, 8)
    collector = Collector(algorithm, envs, buffer)
    collector.reset()
    for _ in range(updates):
        collector.reset_buffer()
        with policy_within_training_step(algorithm.policy):
            collector.collect(n_step=512)
            algorithm.update(buffer, None, 1)
    envs.close()
    return float(np.mean(buffer.rew))


@pytest.mark.parametrize(
    ("kind", "vector"),
    [
        (Matching, DummyVectorEnv),
        (InDict, DummyVectorEnv),
        (Matching, ShmemVectorEnv),
        (InDict, SubprocVectorEnv),
        (OwnArrays, SubprocVectorEnv),
    ],
)
def test_sound_recordings_learn(kind: type[Matching], vector: type[BaseVectorEnv]):
    assert train(learner(kind()), vector([kind] * 8), updates=14) > -0.34  # 0.7 at the start


@pytest.mark.parametrize(
    ("kind", "vector"), [(OwnArrays, DummyVectorEnv), (IntegersFirst, DummyVectorEnv), (InDict, ShmemVectorEnv)]
)
def test_overwritten_and_rounded_observations_are_refused(kind: type[Matching], vector: type[BaseVectorEnv]):
    algorithm = learner(kind())
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"batch.obs must hold what batch.obs_next .* in 480 of 480 rows"):
        train(algorithm, vector([kind] * 8), updates=1)
    assert_same(everything(algorithm), before)


def test_a_buffer_that_derives_the_next_observation_is_exempt():
    envs = DummyVectorEnv([Matching] * 8)
    buffer = VectorReplayBuffer(512, 8, ignore_obs_next=True)
    algorithm = learner(Matching())
    collector = Collector(algorithm, envs, buffer)
    collector.reset()
    with policy_within_training_step(algorithm.policy):
        collector.collect(n_step=512)
        assert np.isfinite(algorithm.update(buffer, None, 1).kl.mean)


def test_actions_that_are_all_the_mode_are_refused():
    algorithm = learner(Matching())
    buffer = VectorReplayBuffer(512, 8)
    collector = Collector(algorithm, DummyVectorEnv([Matching] * 8), buffer)
    collector.reset()
    collector.collect(n_step=512)  # outside of policy_within_training_step
    before = everything(algorithm)
    with (
        policy_within_training_step(algorithm.policy),
        pytest.raises(ValueError, match=r"most probable action in all of 512 rows.*policy_within_training_step"),
    ):
        algorithm.update(buffer, None, 1)
    assert_same(everything(algorithm), before)


@pytest.mark.parametrize("forbidden", [-np.inf, -1e8, -1e9, -1e4])
def test_actions_that_the_recorded_mask_forbids_are_refused(forbidden: float):
    """Masks that belong to the next state, as those read from `info` do, forbid some of the recorded actions."""
    rng = np.random.default_rng(0)
    space = spaces.Dict({"x": BOX, "mask": spaces.MultiBinary(3)})
    policy = make_policy(space, spaces.Discrete(3), mask_key="mask")
    actor, rows = policy.actor, 40

    class Penalised(torch.nn.Module):
        def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
            logits, _ = actor.actor(obs)
            return logits.masked_fill(torch.as_tensor(obs["mask"]) == 0, forbidden), None

    policy.actor = Penalised()
    policy.add_module("known", actor)
    policy.actor.add_module("inner", actor)
    policy.dist_fn = lambda logits: torch.distributions.Categorical(logits=logits)
    algorithm = TRPO(policy=policy, critic=make_critic(space), optim=AdamOptimizerFactory(lr=1e-3))
    masks = np.eye(3, dtype=np.int8)[rng.integers(3, size=rows + 1)] | np.array([1, 0, 0], np.int8)
    x = rng.uniform(-1, 1, (rows + 1, 1)).astype(np.float32)
    buffer = VectorReplayBuffer(rows, 1)
    for t in range(rows):
        act = rng.choice(np.flatnonzero(masks[t + 1]))  # allowed by the mask of the next state
        obs, obs_next = ({"x": x[i][None], "mask": masks[i][None]} for i in (t, t + 1))
        done = np.array([t == rows - 1])
        step = Batch(
            obs=Batch(obs),
            act=np.array([act]),
            rew=np.array([rng.normal()]),
            terminated=done,
            truncated=~done & False,
            done=done,
            obs_next=Batch(obs_next),
            info=Batch(),
        )
        buffer.add(step, buffer_ids=[0])
    before = everything(algorithm)
    with (
        policy_within_training_step(policy),
        pytest.raises(ValueError, match=r"batch.act must be possible for the policy, got .* probability 0 in row"),
    ):
        algorithm.update(buffer, None, 1)
    assert_same(everything(algorithm), before)


def test_a_number_that_is_not_finite_is_named_with_its_place():
    obs = Batch(a=np.zeros((3, 2)), b=Batch(c=torch.tensor([0.0, np.nan, np.inf])))
    batch = Batch(obs=obs, obs_next=np.zeros(3), act=np.zeros(3, int), rew=np.zeros(3))
    with pytest.raises(ValueError, match=r"batch\.obs\.b\.c must be finite, got nan in row 1 \(2 of 3 rows\)"):
        check_finite(batch)
    batch.obs.b.c = torch.zeros(3)
    assert check_finite(batch) is None


def parts_of(buffer: VectorReplayBuffer) -> list[Batch]:
    return [part._meta for part in buffer.buffers]


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_other_rows_between_some_rows_are_no_error(share: float):
    policy = make_actor_policy()
    buffer = make_rollout(policy, end_probability=0.0)
    for meta in parts_of(buffer):
        changed = np.random.default_rng(0).random(len(meta.obs)) < share
        meta.obs_next[changed] += 1.0
    assert update(make_trpo(policy), buffer).accepted == 1.0


def test_a_few_rows_tell_nothing():
    policy = make_actor_policy()
    buffer = make_rollout(policy, n_envs=1, length=4, end_probability=0.0)
    for meta in parts_of(buffer):
        meta.obs_next += 1.0
    assert update(make_trpo(policy), buffer).accepted == 1.0


def modes(policy: Any, buffer: VectorReplayBuffer) -> np.ndarray:
    with torch.no_grad():
        return policy(Batch(obs=buffer.sample(0)[0].obs, info={})).dist.mode.numpy()


def test_some_modes_among_samples_are_no_error():
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    buffer._meta.act[:40] = modes(policy, buffer)[:40]
    assert update(make_trpo(policy), buffer).accepted == 1.0


def test_a_policy_of_categories_that_is_certain_is_no_error():
    policy = make_actor_policy(discrete=True)
    with torch.no_grad():
        policy.actor.body.layers[-1].bias[0] = 100.0
    buffer = make_rollout(policy)
    before = copy.deepcopy(buffer._meta.act)
    assert update(make_trpo(policy), buffer).kl.mean >= 0.0
    assert (before == 0).all()
