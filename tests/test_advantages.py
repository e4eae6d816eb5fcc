"""Normalisation, and generalised advantage estimation through the buffers of Tianshou."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from episodes import algorithm_with, fill, naive_gae, rollout_from, steps_of_env, value_of
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tianshou.data import Batch, VectorReplayBuffer

from trpo_ts.advantages import normalised


def test_normalised_advantages_by_hand():
    # Mean 3, sample standard deviation sqrt(8 / 2) = 2.
    assert normalised(torch.tensor([1.0, 3.0, 5.0])).tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)


@examples(50)
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


# T terminates, L is cut by the time limit, B is both, a point continues; a last point is an unfinished episode.
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
    rollout = rollout_from(algorithm, fill(envs, 10))
    advantages, returns = naive_gae(envs, gamma, lam)
    np.testing.assert_allclose(rollout.adv.numpy(), advantages, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(rollout.returns.numpy(), returns, rtol=1e-12, atol=1e-13)
    values = [value_of(step["obs"]) for steps in envs for step in steps]
    np.testing.assert_allclose(rollout.values.numpy(), values, rtol=1e-12)
    assert rollout.adv.dtype is rollout.returns.dtype is torch.float64


def test_a_buffer_that_wrapped_around_is_read_in_the_order_of_time():
    rng = np.random.default_rng(1)
    envs = [steps_of_env(ends, rng) for ends in ("..T...L...", ".....T....")]
    rollout = rollout_from(algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False), fill(envs, 7))
    advantages, returns = naive_gae([steps[-7:] for steps in envs], 0.9, 0.8)
    np.testing.assert_allclose(rollout.adv.numpy(), advantages, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(rollout.returns.numpy(), returns, rtol=1e-12, atol=1e-13)


@examples(25)
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
    rollout = rollout_from(algorithm, fill(envs, 10))
    np.testing.assert_allclose(rollout.adv.numpy(), naive_gae(envs, gamma, lam)[0], rtol=1e-11, atol=1e-12)


def test_an_environment_without_infos_is_no_error():
    steps = steps_of_env("..T...", np.random.default_rng(7))
    buffer = VectorReplayBuffer(10, 1)
    for step in steps:
        buffer.add(Batch([{**step, "info": {}}]), buffer_ids=[0])
    rollout = rollout_from(algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False), buffer)
    np.testing.assert_allclose(rollout.adv.numpy(), naive_gae([steps], 0.9, 0.8)[0], rtol=1e-12, atol=1e-13)


def test_a_reset_that_returns_to_the_last_observation_changes_nothing():
    rng = np.random.default_rng(4)
    steps = steps_of_env("..L..T...", rng)
    for before, after in ((2, 3), (5, 6)):
        steps[after]["obs"] = steps[before]["obs_next"]
    algorithm = algorithm_with(gamma=0.9, gae_lambda=0.8, advantage_normalization=False)
    rollout = rollout_from(algorithm, fill([steps], 10))
    np.testing.assert_allclose(rollout.adv.numpy(), naive_gae([steps], 0.9, 0.8)[0], rtol=1e-12, atol=1e-13)


def test_normalisation_comes_after_the_estimate_and_leaves_the_returns():
    rng = np.random.default_rng(5)
    envs = [steps_of_env(ends, rng) for ends in ("..T...L..", ".........")]
    rollout = rollout_from(algorithm_with(gamma=0.9, gae_lambda=0.8), fill(envs, 10))
    advantages, returns = naive_gae(envs, 0.9, 0.8)
    expected = (advantages - advantages.mean()) / advantages.std(ddof=1)
    np.testing.assert_allclose(rollout.adv.numpy(), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(rollout.returns.numpy(), returns, rtol=1e-12, atol=1e-13)
