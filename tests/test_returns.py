"""The unit of returns, and how well the critic predicts them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from episodes import algorithm_with, fill, naive_gae, rollout_from, steps_of_env, value_of
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.data import VectorReplayBuffer

from trpo_ts.critics import GaussNewtonFit, MinibatchFit
from trpo_ts.returns import explained_variance


def test_returns_beyond_the_range_of_their_statistics_leave_these_as_they_were():
    policy = make_actor_policy()
    algorithm = make_trpo(policy, return_scaling=True)
    update(algorithm, make_rollout(policy))
    before = algorithm.ret_rms.mean, algorithm.ret_rms.var, algorithm.ret_rms.count
    update(algorithm, make_rollout(policy, reward_scale=1e160))
    assert (algorithm.ret_rms.mean, algorithm.ret_rms.var, algorithm.ret_rms.count) == before
    assert update(algorithm, make_rollout(policy)).accepted == 1.0


def test_explained_variance_by_hand():
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(returns + 7.0, returns) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(4), returns) == 0.0
    assert explained_variance(2 * returns, returns) == pytest.approx(0.0)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    # Residuals 1, 1, -1, -1 have variance 1, the returns 5/4.
    assert explained_variance(torch.tensor([0.0, 1.0, 4.0, 5.0]), returns) == pytest.approx(0.2)


@pytest.mark.parametrize("returns", [[3.0], [2.0, 2.0, 2.0], [0.1] * 7, [0.0, 0.0]], ids=str)
def test_explained_variance_of_returns_that_do_not_vary_is_zero(returns: list[float]):
    for dtype in (torch.float32, torch.float64):
        target = torch.tensor(returns, dtype=dtype)
        assert explained_variance(torch.linspace(-1, 1, len(returns)).to(dtype), target) == 0.0


@pytest.mark.parametrize(
    ("values", "returns"),
    [([0.0, 1.0], [math.inf, 0.0]), ([math.nan, 1.0], [1.0, 0.0]), ([0.0, 1.0], [math.nan, 0.0])],
    ids=str,
)
def test_explained_variance_is_always_finite(values: list[float], returns: list[float]):
    assert math.isfinite(explained_variance(torch.tensor(values), torch.tensor(returns)))


def test_explained_variance_of_large_float32_returns_is_computed_in_float64():
    returns = torch.tensor([1e30, 2e30, 3e30])
    assert explained_variance(torch.zeros(3), returns) == pytest.approx(0.0, abs=1e-12)
    assert explained_variance(returns, returns) == 1.0


@pytest.mark.parametrize("fit", [MinibatchFit(epochs=20, batch_size=32), GaussNewtonFit(steps=4)], ids=repr)
def test_scaled_returns_of_a_critic_that_follows_them_do_not_diverge(fit):
    torch.manual_seed(0)
    policy, critic = make_actor_policy(), Mlp((OBS_DIM, 32, 1))
    algorithm = make_trpo(policy, critic, critic_fit=fit, return_scaling=True, gamma=0.95, gae_lambda=0.95)
    rollouts = [make_rollout(policy, 8, 32, seed=seed, reward_scale=50.0, end_probability=0.01) for seed in range(10)]
    for rollout in rollouts:
        stats = update(algorithm, rollout)
    true = np.concatenate([discounted_returns(rollout, 0.95) for rollout in rollouts])
    assert 0.5 * true.std() < math.sqrt(algorithm.ret_rms.var) < 2.0 * true.std()
    assert stats.explained_variance > 0.0


def discounted_returns(rollout: VectorReplayBuffer, gamma: float) -> np.ndarray:
    """Return the discounted sums of rewards to the end of each episode, or of the rollout, env by env."""
    sums = np.zeros(len(rollout))
    for buffer, begin in zip(rollout.buffers, range(0, len(rollout), 32), strict=True):
        following = 0.0
        for i in reversed(range(len(buffer))):
            following = buffer.rew[i] + gamma * (0.0 if buffer.done[i] else following)
            sums[begin + i] = following
    return sums


def test_return_scaling_divides_by_the_running_deviation_of_all_returns_so_far():
    rng = np.random.default_rng(6)
    first, second, third = (
        [[{**step, "rew": 50 * step["rew"]} for step in steps_of_env("..T..L...", rng)]] for _ in range(3)
    )
    algorithm = algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False, return_scaling=True)
    seen: list[np.ndarray] = []
    unit = math.sqrt(1.0 + 1e-8)  # before anything was seen
    for envs in (first, second, third):
        rollout = rollout_from(algorithm, fill(envs, 10))
        # The critic's values are in the unit of the targets that it was last fitted to.
        advantages, returns = naive_gae(envs, 0.9, 0.8, unit)
        np.testing.assert_allclose(rollout.adv.numpy(), advantages, rtol=1e-11, atol=1e-12)
        values = unit * np.array([value_of(s["obs"]) for s in envs[0]])
        seen.append(returns)
        variance = float(np.var(np.concatenate(seen)))
        unit = math.sqrt(variance + 1e-8)
        np.testing.assert_allclose(rollout.returns.numpy(), returns / unit, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(rollout.values.numpy(), values / unit, rtol=1e-11)
        assert float(algorithm.ret_rms.var) == pytest.approx(variance, rel=1e-11)
        assert float(algorithm.ret_rms.mean) == pytest.approx(float(np.mean(np.concatenate(seen))), rel=1e-10)
