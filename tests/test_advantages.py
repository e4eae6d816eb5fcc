from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, update
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, ReplayBuffer, VectorReplayBuffer
from torch import Tensor, nn

from trpo_ts import NPG
from trpo_ts.advantages import continues, normalised
from trpo_ts.critics import GaussNewtonFit, MinibatchFit
from trpo_ts.policies import diagonal_gaussian
from trpo_ts.returns import explained_variance

# --- normalisation


def test_normalised_advantages_by_hand():
    # Mean 3, sample standard deviation sqrt(8 / 2) = 2.
    assert normalised(torch.tensor([1.0, 3.0, 5.0])).tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 200), shift=st.floats(-100, 100), scale=st.floats(1e-3, 1e3))
def test_normalised_advantages_have_mean_zero_and_unit_sample_variance(seed: int, n: int, shift: float, scale: float):
    adv = np.random.default_rng(seed).normal(size=n)
    got = normalised(torch.as_tensor(shift + scale * adv)).numpy()
    np.testing.assert_allclose(got, (adv - adv.mean()) / adv.std(ddof=1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
def test_normalisation_does_not_depend_on_the_scale(exponent: int):
    adv = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalised(adv * 2.0**exponent), normalised(adv))


@pytest.mark.parametrize("largest", [1e36, 3e38])
def test_the_largest_finite_advantages_are_normalised(largest: float):
    # Their sum does not fit into float32.
    adv = torch.linspace(0.5, 1.0, 1000)
    torch.testing.assert_close(normalised(adv * largest), normalised(adv), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1e-30, 1e30])
@pytest.mark.parametrize("n", [1, 2, 3, 1000])
def test_constant_advantages_become_zero(value: float, n: int, dtype: torch.dtype):
    assert torch.equal(normalised(torch.full((n,), value, dtype=dtype)), torch.zeros(n, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_advantages_that_are_constant_up_to_rounding_become_zero(dtype: torch.dtype):
    adv = torch.full((100,), 0.1, dtype=dtype)
    adv[::3] = torch.nextafter(adv[0], torch.tensor(1.0, dtype=dtype))
    assert torch.equal(normalised(adv), torch.zeros(100, dtype=dtype))


def test_a_small_spread_above_rounding_is_kept():
    adv = torch.tensor([1.0, 1.0 + 1e-4, 1.0 - 1e-4])
    torch.testing.assert_close(normalised(adv), torch.tensor([0.0, 1.0, -1.0]), rtol=0, atol=2e-3)


def test_normalisation_keeps_the_advantages_dtype_and_leaves_them_alone():
    adv = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert normalised(adv).dtype is torch.float64
    assert adv.tolist() == [1.0, 3.0]


# --- explained variance


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


# --- where a trajectory goes on


def trajectory(breaks: list[int], rows: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Any:
    """Observations of ``rows`` steps whose next observation is another one at ``breaks``."""
    numbers = torch.arange(2 * rows * math.prod(shape)).reshape(2 * rows, *shape) % 251
    obs, elsewhere = numbers[:rows].to(dtype), numbers[rows:].to(dtype)
    following = obs.roll(-1, 0)
    for row in [*breaks, rows - 1]:
        following[row] = elsewhere[row]
    return obs, following


@pytest.mark.parametrize("shape", [(), (3,), (2, 4), (8, 8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64], ids=str)
@pytest.mark.parametrize("breaks", [[], [0], [2, 3], [0, 1, 2, 3, 4, 5]], ids=str)
def test_rows_continue_except_where_the_trajectory_breaks(
    shape: tuple[int, ...], dtype: torch.dtype, breaks: list[int]
):
    expected = [row not in breaks and row < 6 for row in range(7)]
    got = continues(*trajectory(breaks, 7, shape, dtype))
    assert got.dtype == bool
    assert got.tolist() == expected


def test_the_last_row_never_continues():
    same = torch.ones(3, 2)
    assert continues(same, same).tolist() == [True, True, False]
    assert continues(torch.ones(1, 2), torch.ones(1, 2)).tolist() == [False]
    assert continues(torch.ones(1), torch.ones(1)).tolist() == [False]


def test_one_component_of_one_pixel_breaks_a_trajectory():
    obs, following = trajectory([], 5, (4, 4, 3))
    following[2, 3, 1, 0] = torch.nextafter(following[2, 3, 1, 0], torch.tensor(1e9))
    assert continues(obs, following).tolist() == [True, True, False, True, False]


def test_nested_observations_continue_where_every_part_does():
    first, first_next = trajectory([1], 5, (2,))
    second, second_next = trajectory([3], 5, (4, 4))
    obs = Batch(a=first, inner=Batch(b=second))
    following = Batch(a=first_next, inner=Batch(b=second_next))
    assert continues(obs, following).tolist() == [True, False, True, False, False]


def test_observations_that_are_no_tensors_are_taken_not_to_continue():
    words = np.array(["a", "b", "c"], dtype=object)
    assert continues(words, words).tolist() == [False, False, False]
    obs, following = trajectory([], 3, (2,))
    assert continues(obs, following[:, :1]).tolist() == [False, False, False]
    assert continues(Batch(a=obs, word=words), Batch(a=following, word=words)).tolist() == [False, False, False]


def test_an_observation_that_is_not_a_number_does_not_continue():
    obs = torch.full((3, 2), math.nan)
    assert continues(obs, obs).tolist() == [False, False, False]


# --- generalised advantage estimation through Tianshou's buffers


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, obs: Tensor, state: Any = None, info: Any = None) -> tuple[tuple[Tensor, Tensor], Any]:
        mean = self.mean(torch.as_tensor(obs))
        return (mean, torch.ones_like(mean)), state


class Critic(nn.Module):
    """V(s) = tanh(w . s) in float64; counts the rows it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -1.3], dtype=torch.float64))
        self.rows = 0

    def forward(self, obs: Tensor) -> Tensor:
        self.rows += len(obs)
        return torch.tanh(obs @ self.weight).unsqueeze(-1)


def value_of(obs: np.ndarray) -> float:
    return math.tanh(0.7 * obs[0] - 1.3 * obs[1])


def algorithm_with(**settings: Any) -> NPG:
    box = gym.spaces.Box(-1, 1, (1,))
    policy = ProbabilisticActorPolicy(
        actor=Actor(), dist_fn=diagonal_gaussian, action_space=box, action_scaling=False, action_bound_method=None
    )
    return NPG(policy=policy, critic=Critic(), optim=AdamOptimizerFactory(lr=1e-3), **settings)


Step = dict[str, Any]


def steps_of_env(ends: str, rng: np.random.Generator) -> list[Step]:
    """Return an environment's steps; ends spells for each one whether it terminates, truncates or goes on."""
    steps, obs = [], rng.normal(size=2)
    for t, end in enumerate(ends):
        following = rng.normal(size=2)
        steps.append(
            {
                "obs": obs,
                "obs_next": following,
                "act": rng.normal(size=1),
                "rew": rng.normal(),
                "terminated": end in "TB",
                "truncated": end in "LB",
                "info": {"t": t},
            }
        )
        obs = following if end == "." else rng.normal(size=2)
    return steps


def fill(envs: list[list[Step]], size: int) -> VectorReplayBuffer:
    """Add the steps environment by environment in turn, as a collector does."""
    buffer = VectorReplayBuffer(size * len(envs), len(envs))
    for t in range(max(map(len, envs))):
        for i, steps in enumerate(envs):
            if t < len(steps):
                buffer.add(Batch([steps[t]]), buffer_ids=[i])
    return buffer


def naive_gae(envs: list[list[Step]], gamma: float, lam: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A_t = sum_k (gamma lambda)^k delta_{t+k} up to the end of the episode or of the rollout; R_t = A_t + V(s_t)."""
    advantages, returns = [], []
    for steps in envs:
        for t, first in enumerate(steps):
            total, discount = 0.0, 1.0
            for step in steps[t:]:
                bootstrap = 0.0 if step["terminated"] else value_of(step["obs_next"]) * scale
                total += discount * (step["rew"] + gamma * bootstrap - value_of(step["obs"]) * scale)
                discount *= gamma * lam
                if step["terminated"] or step["truncated"]:
                    break
            advantages.append(total)
            returns.append(total + value_of(first["obs"]) * scale)
    return np.array(advantages), np.array(returns)


def preprocessed(algorithm: NPG, buffer: ReplayBuffer) -> Any:
    batch, indices = buffer.sample(0)
    return algorithm._preprocess_batch(batch, buffer, indices)


# T terminates, L is cut by the time limit, B is both, a point goes on; a last point is an unfinished episode.
ROLLOUTS = {
    "unfinished": ["......"],
    "terminated": ["..T..T"],
    "truncated": ["..L..L"],
    "both at once": ["..B..."],
    "single steps": ["TLT.", "....", "L"],
    "one step": ["."],
    "several": ["..T...L..", "....T....", ".........", "L.T.L.T.L"],
}


@pytest.mark.parametrize("ends", ROLLOUTS.values(), ids=ROLLOUTS)
@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (0.9, 0.0), (0.9, 1.0), (1.0, 1.0), (0.0, 0.5)])
def test_advantages_and_returns_are_those_of_the_equations(ends: list[str], gamma: float, lam: float):
    rng = np.random.default_rng(0)
    envs = [steps_of_env(end, rng) for end in ends]
    algorithm = algorithm_with(gamma=gamma, gae_lambda=lam, advantage_normalization=False)
    batch = preprocessed(algorithm, fill(envs, 10))
    advantages, returns = naive_gae(envs, gamma, lam)
    np.testing.assert_allclose(batch.adv.numpy(), advantages, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(batch.returns.numpy(), returns, rtol=1e-12, atol=1e-13)
    values = [value_of(step["obs"]) for steps in envs for step in steps]
    np.testing.assert_allclose(batch.v_s.numpy(), values, rtol=1e-12)
    assert batch.adv.dtype is batch.returns.dtype is torch.float64


def test_a_buffer_that_wrapped_around_is_read_in_the_order_of_time():
    rng = np.random.default_rng(1)
    envs = [steps_of_env(ends, rng) for ends in ("..T...L...", ".....T....")]
    batch = preprocessed(algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False), fill(envs, 7))
    advantages, returns = naive_gae([steps[-7:] for steps in envs], 0.9, 0.8)
    np.testing.assert_allclose(batch.adv.numpy(), advantages, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(batch.returns.numpy(), returns, rtol=1e-12, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(
    ends=st.lists(st.text("...TLB", min_size=1, max_size=8), min_size=1, max_size=3),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
    max_batchsize=st.integers(1, 30),
)
def test_advantages_are_those_of_the_equations_for_any_rollout(
    ends: list[str], gamma: float, lam: float, max_batchsize: int
):
    rng = np.random.default_rng(2)
    envs = [steps_of_env(end, rng) for end in ends]
    algorithm = algorithm_with(gamma=gamma, gae_lambda=lam, advantage_normalization=False, max_batchsize=max_batchsize)
    batch = preprocessed(algorithm, fill(envs, 10))
    np.testing.assert_allclose(batch.adv.numpy(), naive_gae(envs, gamma, lam)[0], rtol=1e-11, atol=1e-12)


def test_an_environment_without_infos_is_no_error():
    steps = steps_of_env("..T...", np.random.default_rng(7))
    buffer = VectorReplayBuffer(10, 1)
    for step in steps:
        buffer.add(Batch([{**step, "info": {}}]), buffer_ids=[0])
    batch = preprocessed(algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False), buffer)
    np.testing.assert_allclose(batch.adv.numpy(), naive_gae([steps], 0.9, 0.8)[0], rtol=1e-12, atol=1e-13)


def test_the_critic_sees_each_observation_once_and_the_next_one_only_where_an_episode_breaks():
    rng = np.random.default_rng(3)
    envs = [steps_of_env(ends, rng) for ends in ("..T..L...", ".........")]
    algorithm = algorithm_with()
    preprocessed(algorithm, fill(envs, 10))
    assert algorithm.critic.rows == 18 + 4  # a termination, a truncation, the ends of two environments


def test_a_reset_that_returns_to_the_last_observation_changes_nothing():
    rng = np.random.default_rng(4)
    steps = steps_of_env("..L..T...", rng)
    for before, after in ((2, 3), (5, 6)):
        steps[after]["obs"] = steps[before]["obs_next"]
    algorithm = algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False)
    batch = preprocessed(algorithm, fill([steps], 10))
    np.testing.assert_allclose(batch.adv.numpy(), naive_gae([steps], 0.9, 0.8)[0], rtol=1e-12, atol=1e-13)


def test_normalisation_comes_after_the_estimate_and_leaves_the_returns():
    rng = np.random.default_rng(5)
    envs = [steps_of_env(ends, rng) for ends in ("..T...L..", ".........")]
    batch = preprocessed(algorithm_with(gamma=0.9, gae_lambda=0.8), fill(envs, 10))
    advantages, returns = naive_gae(envs, 0.9, 0.8)
    expected = (advantages - advantages.mean()) / advantages.std(ddof=1)
    np.testing.assert_allclose(batch.adv.numpy(), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(batch.returns.numpy(), returns, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("fit", [MinibatchFit(epochs=20, batch_size=32), GaussNewtonFit(steps=4)], ids=repr)
def test_scaled_returns_of_a_critic_that_follows_them_do_not_run_away(fit):
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
        batch = preprocessed(algorithm, fill(envs, 10))
        # The critic's values are in the unit of the targets that it was last fitted to.
        advantages, returns = naive_gae(envs, 0.9, 0.8, unit)
        np.testing.assert_allclose(batch.adv.numpy(), advantages, rtol=1e-11, atol=1e-12)
        values = unit * np.array([value_of(s["obs"]) for s in envs[0]])
        seen.append(returns)
        variance = float(np.var(np.concatenate(seen)))
        unit = math.sqrt(variance + 1e-8)
        np.testing.assert_allclose(batch.returns.numpy(), returns / unit, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(batch.v_s.numpy(), values / unit, rtol=1e-11)
        assert float(algorithm.ret_rms.var) == pytest.approx(variance, rel=1e-11)
        assert float(algorithm.ret_rms.mean) == pytest.approx(float(np.mean(np.concatenate(seen))), rel=1e-10)
