"""Every action space from make_policy through the collector and trainer of Tianshou to the contract of an update."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from action_tasks import OBSERVATIONS, Anything, Matching, mean_return, train
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from rollouts import mean_kl, update
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.envs import FlattenAction
from trpo_ts.policies import make_policy

CHOICES = {
    "discrete": spaces.Discrete(4),
    "discrete from 1": spaces.Discrete(4, start=1),
    "equal": spaces.MultiDiscrete([3, 3]),
    "unequal": spaces.MultiDiscrete([2, 3, 5], start=[0, 10, -2], dtype=np.int32),
    "matrix": spaces.MultiDiscrete([[2, 3], [4, 1]]),
    "wide bytes": spaces.MultiDiscrete([100, 120], start=[-100, 0], dtype=np.int8),
    "unsigned": spaces.MultiDiscrete([2, 3], start=[7, 1], dtype=np.uint8),
    "bits": spaces.MultiBinary(3),
    "matrix of bits": spaces.MultiBinary((2, 2)),
}
STRUCTURES = {
    "dict": spaces.Dict(aim=spaces.Box(-2.0, 5.0, (2,)), gear=spaces.Discrete(3), push=spaces.Box(-np.inf, np.inf, ())),
    "tuple of choices": spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiBinary(2)]),
    "dict of reals": spaces.Dict(a=spaces.Box(-1.0, 1.0, (2,)), b=spaces.Box(0.0, 1.0, (1,))),
    "nested": spaces.Tuple(
        [spaces.Dict(a=spaces.MultiDiscrete([[2, 3]]), b=spaces.Box(0.0, 1.0, (2, 2))), spaces.MultiBinary(2)]
    ),
}
SPACES = {"box": spaces.Box(-1.0, 3.0, (2,))} | CHOICES | STRUCTURES
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def environment(space: gym.Space[Any]) -> gym.Env[Any, Any]:
    return FlattenAction(Anything(space)) if isinstance(space, spaces.Dict | spaces.Tuple) else Anything(space)


def collected(space: gym.Space[Any], steps: int = 128, **kwargs: Any) -> tuple[TRPO, VectorReplayBuffer]:
    """Return an algorithm and a rollout of its policy."""
    torch.manual_seed(0)
    envs = DummyVectorEnv([lambda: environment(space)] * 4)
    envs.seed(0)
    algorithm = TRPO(
        policy=make_policy(OBSERVATIONS, environment(space).action_space, hidden_sizes=(16,)),
        critic=make_critic(OBSERVATIONS, hidden_sizes=(8,)),
        optim=AdamOptimizerFactory(lr=1e-2),
        **kwargs,
    )
    buffer = VectorReplayBuffer(steps, 4)
    collector = Collector[CollectStats](algorithm, envs, buffer)
    collector.reset()
    with policy_within_training_step(algorithm.policy):
        collector.collect(n_step=steps)
    return algorithm, buffer


@every_space
def test_the_trainer_collects_and_updates(space: gym.Space[Any]):
    policy = make_policy(OBSERVATIONS, environment(space).action_space, hidden_sizes=(16,))
    critic = make_critic(OBSERVATIONS, hidden_sizes=(8,))
    algorithm, stats = train(policy, critic, lambda: environment(space), updates=2, steps=64, ent_coef=0.01)
    assert stats.train_step == 128
    mean_return(algorithm, lambda: environment(space), episodes=8)  # the environment takes the modes as well


@every_space
@pytest.mark.parametrize("max_kl", [1e-3, 0.1])
def test_the_trust_region_holds_and_the_step_is_worth_it(space: gym.Space[Any], max_kl: float):
    algorithm, buffer = collected(space, max_kl=max_kl, ent_coef=0.01)
    batch, _ = buffer.sample(0)
    with torch.no_grad():
        distribution = algorithm.policy(Batch(obs=batch.obs, info=batch.info)).dist
    assert fisher_metric(distribution) is not None
    before = copy.deepcopy(algorithm.policy)
    stats = update(algorithm, buffer, None, 2)
    assert stats.accepted == 1.0
    assert 0.01 * max_kl < stats.kl.mean <= max_kl
    assert mean_kl(before, algorithm.policy, buffer) == pytest.approx(stats.kl.mean, rel=1e-3)
    assert stats.surrogate_improvement > 0.0
    assert stats.entropy != 0.0
    assert (stats.policy_std is not None) == any(isinstance(part, spaces.Box) for part in _parts(space))


def _parts(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return [space]
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
    return [leaf for part in parts for leaf in _parts(part)]


@pytest.mark.parametrize("space", CHOICES.values(), ids=CHOICES)
def test_actions_are_recorded_from_0_and_sent_as_the_environment_counts(space: gym.Space[Any]):
    policy = make_policy(OBSERVATIONS, space)
    space.seed(0)
    for _ in range(20):
        action = space.sample()
        recorded = policy.map_action_inverse(np.asarray(action))
        assert recorded.min() >= 0
        sent = policy.map_action(torch.as_tensor(recorded))
        assert sent.dtype == space.dtype
        np.testing.assert_array_equal(sent, action)
    assert space.contains(policy.compute_action(np.zeros(3, np.float32)))


def recording(space: gym.Space[Any], taken: list[Any]) -> gym.Env[Any, Any]:
    """Return an environment that adds to ``taken`` what it is given."""
    env = environment(space)
    inner = env.env if isinstance(env, FlattenAction) else env
    step = inner.step

    def recorded(action: Any) -> Any:
        taken.append(action)
        return step(action)

    inner.step = recorded
    return env


@every_space
def test_a_collector_may_act_at_random(space: gym.Space[Any]):
    """What the buffer holds is the policy's own form of what the environments got, and possible for the policy."""
    env, taken = environment(space), ([], [])
    policy = make_policy(OBSERVATIONS, env.action_space)
    envs = DummyVectorEnv([lambda: recording(space, taken[0]), lambda: recording(space, taken[1])])
    buffer = VectorReplayBuffer(8, 2)
    collector = Collector[CollectStats](policy, envs, buffer)
    collector.reset()
    assert collector.collect(n_step=8, random=True).n_collected_steps == 8
    batch, _ = buffer.sample(0)
    sent = policy.map_action(batch.act)
    for row, given in zip(sent, [*taken[0], *taken[1]], strict=True):
        if isinstance(env, FlattenAction):
            assert data_equivalence(env.action(row), given)
        else:
            np.testing.assert_allclose(row, given, rtol=1e-6)
    with torch.no_grad():
        distribution = policy(Batch(obs=batch.obs, info=Batch())).dist
    assert distribution.log_prob(torch.as_tensor(batch.act)).isfinite().all()


@every_space
def test_policies_begin_near_the_middle_and_copy(space: gym.Space[Any]):
    torch.manual_seed(0)
    policy = make_policy(OBSERVATIONS, environment(space).action_space)
    twin = pickle.loads(pickle.dumps(policy))
    obs = torch.randn(6, 3)
    with torch.no_grad():
        (first, again) = (p(Batch(obs=obs, info=Batch())).dist for p in (policy, twin))
        zero = policy(Batch(obs=torch.zeros(6, 3), info=Batch())).dist
    assert torch.equal(first.mode, again.mode)
    torch.testing.assert_close(first.entropy(), zero.entropy(), rtol=0, atol=1e-2)
    assert torch.equal(zero.mode, torch.zeros_like(zero.mode))  # also where choices are equally probable


def test_the_standard_deviation_of_real_numbers_is_set():
    space = FlattenAction(Anything(STRUCTURES["dict"])).action_space
    policy = make_policy(OBSERVATIONS, space, initial_std=0.3)
    with torch.no_grad():
        dist = policy(Batch(obs=torch.zeros(2, 3), info=Batch())).dist
    torch.testing.assert_close(dist.stddev[:, :3], torch.full((2, 3), 0.3))
    with pytest.raises(ValueError, match=r"^initial_std must be a number > 0"):
        make_policy(OBSERVATIONS, space, initial_std=0.0)


def test_unequal_components_are_learned():
    torch.manual_seed(0)
    policy = make_policy(Matching.observation_space, Matching.action_space, hidden_sizes=(32,))
    critic = make_critic(Matching.observation_space, hidden_sizes=(32,))
    algorithm, _ = train(policy, critic, Matching, updates=12)
    assert mean_return(algorithm, Matching) >= 0.95  # 0.34 by chance
