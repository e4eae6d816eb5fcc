"""What a step in a loop of one's own refuses, undoes and leaves alone."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bandit import assert_same
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

from trpo_ts.solver import trust_region_update

pytestmark = pytest.mark.usefixtures("seeded")


class Policy(nn.Module):
    """Logits of what a function makes of the observations."""

    def __init__(self, read: Callable[[Tensor], Tensor] = lambda obs: obs) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
        self.read = read

    def forward(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.net(self.read(obs)))


def data(policy: nn.Module, count: int = 128) -> tuple[Tensor, Tensor, Tensor]:
    obs = torch.randn(count, 4)
    with torch.no_grad():
        act = policy(obs.clone()).sample()
    return obs, act, torch.where(act == 0, 1.0, -1.0) + 0.1 * obs[:, 0]


@pytest.mark.parametrize("size", [None, 33])
@pytest.mark.parametrize("max_kl", [0.01, 0.1])
def test_a_module_that_works_in_place_is_exact_and_leaves_the_observations(size: int | None, max_kl: float):
    policy = Policy(lambda obs: obs.mul_(0.5))
    obs, act, adv = data(policy)
    twin, given = copy.deepcopy(policy), obs.clone()
    twin.read = lambda obs: 0.5 * obs
    step = trust_region_update(policy, obs, act, adv, max_kl=max_kl, micro_batch_size=size)
    assert torch.equal(obs, given)
    with torch.no_grad():
        true = float(kl_divergence(twin(obs), policy(obs.clone())).mean())
    assert step.accepted
    assert true == pytest.approx(step.kl, rel=1e-3)
    trust_region_update(twin, obs, act, adv, max_kl=max_kl, micro_batch_size=size)
    assert_same(policy.state_dict(), twin.state_dict())


class Aliased(Policy):
    """Reads a trained bias through a buffer in its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("alias", self.net[2].bias.data)

    def forward(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.net(obs) + 3.0 * self.alias * torch.arange(3))


def test_a_parameter_that_is_read_in_another_way_is_refused_and_the_step_undone():
    policy = Aliased()
    obs, act, adv = data(policy)
    before = copy.deepcopy(policy.state_dict())
    with pytest.raises(ValueError, match="policy must use a trained parameter's memory through that parameter alone"):
        trust_region_update(policy, obs, act, adv, max_kl=0.1)
    assert_same(policy.state_dict(), before)


class Failing(Policy):
    """Counts its passes in a buffer, and fails at one of them."""

    count: Tensor

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last
        self.register_buffer("count", torch.zeros(()))

    def forward(self, obs: Tensor) -> Categorical:
        self.count = self.count + 1
        if self.count >= self.last:
            raise RuntimeError("broken")
        return super().forward(obs)


@pytest.mark.parametrize("last", range(3, 16))
def test_an_error_in_any_pass_leaves_parameters_buffers_and_modes_as_they_were(last: int):
    policy = Failing(last)
    obs, act, adv = data(policy)
    before = copy.deepcopy(policy.state_dict())
    with pytest.raises(RuntimeError, match="broken"):
        trust_region_update(policy, obs, act, adv)
    assert_same(policy.state_dict(), before)
    assert policy.training
    policy.last = 10**9
    assert trust_region_update(policy, obs, act, adv).accepted


@pytest.mark.parametrize("damping", [1e300, 1e39])
def test_damping_outside_of_the_modules_dtype_is_refused(damping: float):
    policy = Policy()
    obs, act, adv = data(policy)
    before = copy.deepcopy(policy.state_dict())
    with pytest.raises(ValueError, match=r"cg_damping must be a number in \[0, 3\.40282e\+38\], got"):
        trust_region_update(policy, obs, act, adv, cg_damping=damping)
    assert_same(policy.state_dict(), before)
    double = Policy(lambda obs: obs.double()).double()
    assert trust_region_update(double, obs, act, adv, cg_damping=1e39) is not None


def test_random_numbers_without_an_effect_are_put_back():
    def read(obs: Tensor) -> Tensor:
        torch.rand(1)
        np.random.rand()  # noqa: NPY002
        random.random()
        return obs

    policy = Policy(read)
    obs, act, adv = data(policy)
    states: Any = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert trust_region_update(policy, obs, act, adv).accepted
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]


def test_one_module_in_two_threads_is_refused():
    begun, leave = threading.Event(), threading.Event()

    def read(obs: Tensor) -> Tensor:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert leave.wait(60)
        return obs

    policy = Policy(read)
    obs, act, adv = data(policy)
    thread = threading.Thread(target=trust_region_update, args=(policy, obs, act, adv))
    thread.start()
    assert begun.wait(60)
    try:
        with pytest.raises(ValueError, match=r"one update at a time, got net\.0\.weight, "):
            trust_region_update(policy, obs, act, adv)
    finally:
        leave.set()
        thread.join()
    assert trust_region_update(policy, obs, act, adv) is not None


def test_hooks_on_parameters_are_refused():
    policy = Policy()
    obs, act, adv = data(policy)
    policy.net[0].weight.register_hook(lambda gradient: None)
    with pytest.raises(ValueError, match=r"must have no hooks .* got some on net\.0\.weight: "):
        trust_region_update(policy, obs, act, adv)
