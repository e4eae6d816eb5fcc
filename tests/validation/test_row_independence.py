"""Policies whose distribution for an observation depends on the other observations of its batch are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bandit import (
    INPUTS,
    Actor,
    acted,
    as_float,
    assert_same,
    divergence,
    everything,
    make_algorithm,
    observations,
    rollout,
    update,
    update_and_measure,
)
from rollouts import make_trpo
from rollouts import update as update_of
from sequenced import acting, make_sequence_critic, make_sequence_policy
from torch import Tensor, nn

from trpo_ts.solver import trust_region_update
from trpo_ts.validation import policy_function_checks

pytestmark = pytest.mark.usefixtures("seeded")


class Changed(Actor):
    """Makes something of its mean."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        (mean, std), state = super().forward(obs, state, info)
        return (self.change(mean), std), state


class Normalised(Actor):
    """Normalises its features by a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(INPUTS, 16), layer, nn.Tanh(), nn.Linear(16, 1))


DEPENDENT: dict[str, Callable[[], nn.Module]] = {
    "the mean of the batch": lambda: Changed(lambda mean: mean - mean.mean(0)),
    "a little of it": lambda: Changed(lambda mean: mean - 0.01 * mean.mean(0)),
    "the largest of the batch": lambda: Changed(lambda mean: mean / mean.abs().amax(0)),
    "the larger half": lambda: Changed(lambda mean: mean * (mean >= mean.sort(0).values[len(mean) // 2])),
    "the row before": lambda: Changed(lambda mean: mean + 0.1 * mean.roll(1, 0)),
    "the size of the batch": lambda: Changed(lambda mean: mean * len(mean) / 8),
    "the rank": lambda: Changed(lambda mean: mean + 0.1 * mean.argsort(0).argsort(0)),
    "batch norm without running statistics": lambda: Normalised(nn.BatchNorm1d(16, track_running_stats=False)),
    "an instance norm over the batch": lambda: Actor(lambda obs: (as_float(obs) - 1) / as_float(obs).std()),
    "attention over the batch": lambda: Changed(lambda mean: torch.softmax(mean @ mean.T, -1) @ mean),
}


TOO_SMALL = {
    "the size of the batch": (1, 2),  # which is 2 in all batches that are tried
    "batch norm without running statistics": (1,),  # torch refuses to normalise a single row
}


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in DEPENDENT for size in (None, 1, 2, 3, 64) if size not in TOO_SMALL.get(name, ())],
)
def test_they_are_refused_before_anything_changes(name: str, size: int | None):
    algorithm = make_algorithm(DEPENDENT[name](), micro_batch_size=size)
    buffer = rollout(algorithm.policy, observations())
    before = everything(algorithm)
    with pytest.raises(ValueError, match=r"policy must give an observation the same distribution whatever other"):
        update(algorithm, buffer)
    assert_same(everything(algorithm), before)


def test_what_it_would_have_come_to(monkeypatch: pytest.MonkeyPatch):
    """Without the check the divergence of the policy that acts, measured in one batch, is above the bound."""
    monkeypatch.setattr(policy_function_checks, "check_rows_are_independent", lambda policy, act: None)
    excess = []
    for seed in range(8):
        torch.manual_seed(seed)
        algorithm = make_algorithm(Changed(lambda mean: mean - mean.mean(0)), micro_batch_size=8)
        buffer = rollout(algorithm.policy, observations(seed))
        recorded = buffer.sample(0)[0].obs
        before = acted(algorithm.policy, recorded)
        stats = update(algorithm, buffer)
        excess.append(divergence(before, acted(algorithm.policy, recorded)) - stats.kl.mean)
    assert max(map(abs, excess)) > 1e-4


INDEPENDENT: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: Normalised(nn.BatchNorm1d(16)),
    "layer norm": lambda: Normalised(nn.LayerNorm(16)),
    "group norm": lambda: Normalised(nn.GroupNorm(4, 16)),
    "a branch for the whole batch": lambda: Changed(lambda mean: mean if bool((mean > 9).all()) else 1.0 * mean),
    "one row on its own is squeezed": lambda: Changed(lambda mean: mean.squeeze().reshape(len(mean), 1)),
    "sums of many numbers": lambda: Actor(
        lambda obs: (as_float(obs)[:, None] * torch.linspace(-1e3, 1e3, 4096)[:, None]).sum(1) / 1e3
    ),
    "half precision": lambda: HalfPrecision(),
    "single precision in double": lambda: Changed(lambda mean: mean.float().tanh().to(mean.dtype)),
}


class HalfPrecision(Actor):
    """Computes its mean by wide layers in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(INPUTS, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 1))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mean = self.net(as_float(obs))
        return (mean.float(), self.log_std.exp().expand_as(mean)), state


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_others_are_trained_within_the_bound(name: str, size: int | None):
    algorithm = make_algorithm(INDEPENDENT[name](), micro_batch_size=size)
    algorithm.policy.eval()  # as Tianshou's collector has it
    stats, true = update_and_measure(algorithm, observations())
    assert stats.accepted
    assert true == pytest.approx(stats.kl.mean, rel=0.02)
    assert true <= (0.0204 if name == "half precision" else 0.02002)


@pytest.mark.parametrize("log_std", [-0.5, -7.0, -13.0])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_rounding_is_no_dependence(log_std: float, offset: float):
    """With deviations of 2e-6 a rounding of the mean is a tenth of one."""
    actor = Actor(lambda obs: as_float(obs) + offset)
    actor.net = nn.Sequential(nn.Linear(INPUTS, 256), nn.Tanh(), nn.Linear(256, 1))
    actor.log_std.data.fill_(log_std)
    algorithm = make_algorithm(actor, micro_batch_size=5)
    assert update(algorithm, rollout(algorithm.policy, observations())) is not None


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_rows_of_a_sequence_depend_on_those_before_by_their_recorded_state(cell: str):
    policy = make_sequence_policy(cell, discrete=True)
    algorithm = make_trpo(policy, make_sequence_critic(cell))
    actor = acting(policy, mean_length=1e9)
    actor.collect(24)
    before = copy.deepcopy(list(policy.parameters()))
    assert update_of(algorithm, actor.buffer).accepted
    assert any(not torch.equal(p, q) for p, q in zip(before, policy.parameters(), strict=True))


def test_in_a_loop_of_ones_own_it_is_refused_too():
    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Linear(4, 2)

        def forward(self, obs: Tensor) -> torch.distributions.Distribution:
            logits = self.logits(obs)
            return torch.distributions.Categorical(logits=logits - logits.mean(0))

    policy, obs = Policy(), torch.randn(64, 4)
    act, before = policy(obs).sample(), copy.deepcopy(policy.state_dict())
    with pytest.raises(ValueError, match="whatever other observations"):
        trust_region_update(policy, obs, act, obs[:, 0])
    assert_same(policy.state_dict(), before)
