from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.critics.fit import CriticFit, CriticTask
from trpo_ts.critics.optimizer_fit import MinibatchFit, OptimizerFit

LARGEST = torch.finfo(torch.float32).max


def data(rows: int = 23, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(rows, 3, dtype=dtype, generator=generator)
    return obs, 2 * torch.tanh(obs @ torch.tensor([1.0, -2.0, 0.5], dtype=dtype)) + 1


def critic_of(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def adam_of(critic: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(critic.parameters(), lr=0.01)


class HandWrittenAdam:
    """Adam (Kingma and Ba 2015, algorithm 1) on the mean squared error, in plain tensors."""

    def __init__(self, critic: nn.Module) -> None:
        self.critic, self.t = critic, 0
        self.m = [torch.zeros_like(p) for p in critic.parameters()]
        self.v = [torch.zeros_like(p) for p in critic.parameters()]

    def step(self, obs: Tensor, returns: Tensor) -> float:
        loss = ((self.critic(obs).squeeze(-1) - returns) ** 2).sum() / len(returns)
        gradients = torch.autograd.grad(loss, list(self.critic.parameters()))
        self.t += 1
        with torch.no_grad():
            for p, g, m, v in zip(self.critic.parameters(), gradients, self.m, self.v, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                p -= 0.01 * (m / (1 - 0.9**self.t)) / (torch.sqrt(v / (1 - 0.999**self.t)) + 1e-8)
        return float(loss.detach())


def state_of(critic: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return copies of all parameters and moments."""
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [tensor.detach().clone() for tensor in (*critic.parameters(), *moments)]


def assert_same(first: list[Tensor], second: list[Tensor], **tolerance: float) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def optimizer_fit(
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    obs: Tensor | Batch,
    returns: Tensor,
    micro_batch_size: int | None = None,
    **settings: int | None,
) -> list[float]:
    return OptimizerFit(**settings).fit(CriticTask(critic, optimizer, obs, returns, micro_batch_size))


class Recorder(nn.Module):
    """A critic that notes the rows it is shown: their first component is their number."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.passes = nn.Parameter(torch.zeros(1)), []

    def forward(self, obs: Tensor) -> Tensor:
        self.passes.append(obs[:, 0].int().tolist())
        return self.value.expand(len(obs), 1)


# --- the full batch


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_a_full_batch_fit_is_the_loop_written_by_hand(iterations: int):
    obs, returns = data()
    critic = critic_of()
    optimizer, by_hand = adam_of(critic), HandWrittenAdam(copy.deepcopy(critic))
    losses = optimizer_fit(critic, optimizer, obs, returns, iterations=iterations)
    expected = [by_hand.step(obs, returns) for _ in range(iterations)]
    assert losses == pytest.approx(expected[-1:], rel=1e-12)
    assert_same(list(critic.parameters()), list(by_hand.critic.parameters()), rtol=1e-11, atol=1e-13)


def test_moments_carry_over_to_the_next_fit():
    obs, returns = data()
    critic = critic_of()
    optimizer, by_hand = adam_of(critic), HandWrittenAdam(copy.deepcopy(critic))
    for seed in range(3):
        obs, returns = data(seed=seed)
        optimizer_fit(critic, optimizer, obs, returns, iterations=2)
        for _ in range(2):
            by_hand.step(obs, returns)
    assert_same(list(critic.parameters()), list(by_hand.critic.parameters()), rtol=1e-11, atol=1e-13)


def test_the_loss_is_the_mean_squared_error_before_the_last_step():
    critic = nn.Linear(1, 1, bias=False)
    nn.init.constant_(critic.weight, 2.0)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.25)
    # Values 2 and 4 against 1 and 1: (1 + 9) / 2. The gradient is (2 * 1 * 1 + 2 * 3 * 2) / 2 = 7.
    losses = optimizer_fit(critic, optimizer, torch.tensor([[1.0], [2.0]]), torch.ones(2), iterations=1)
    assert losses == [5.0]
    assert critic.weight.item() == 0.25


def test_values_may_be_a_column_or_a_vector():
    obs, returns = data()
    column = critic_of()
    vector = nn.Sequential(copy.deepcopy(column), nn.Flatten(0))
    for critic in (column, vector):
        optimizer_fit(critic, adam_of(critic), obs, returns, iterations=3)
    assert_same(list(column.parameters()), list(vector.parameters()), rtol=0, atol=0)


def test_observations_may_be_a_batch():
    obs, returns = data()

    class OfBatch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = critic_of()

        def forward(self, batch: Batch) -> Tensor:
            return self.net(batch.state)

    plain, nested = critic_of(), OfBatch()
    for size in (None, 5):
        for critic, observations in ((plain, obs), (nested, Batch(state=obs))):
            torch.manual_seed(0)
            optimizer_fit(critic, adam_of(critic), observations, returns, iterations=2, batch_size=size)
        assert_same(list(plain.parameters()), list(nested.parameters()), rtol=0, atol=0)


# --- minibatches


@examples(60)
@given(rows=st.integers(1, 40), batch_size=st.integers(1, 50), iterations=st.integers(1, 3))
def test_minibatches_hold_every_row_once_and_the_last_two_are_merged(rows: int, batch_size: int, iterations: int):
    critic = Recorder()
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.0)
    obs = torch.arange(rows).float().unsqueeze(-1)
    losses = optimizer_fit(critic, optimizer, obs, torch.zeros(rows), iterations=iterations, batch_size=batch_size)
    batches = critic.passes[::iterations]
    assert [batch for batch in batches for _ in range(iterations)] == critic.passes
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    count = max(1, rows // batch_size)
    expected_sizes = [batch_size] * (count - 1) + [rows - batch_size * (count - 1)]
    assert [len(batch) for batch in batches] == expected_sizes
    assert len(losses) == count


def test_minibatches_are_shuffled_anew_each_time():
    critic = Recorder()
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.0)
    torch.manual_seed(0)
    for _ in range(2):
        optimizer_fit(
            critic, optimizer, torch.arange(60.0).unsqueeze(-1), torch.zeros(60), iterations=1, batch_size=60 // 3
        )
    first, second = critic.passes[:3], critic.passes[3:]
    assert first != second
    assert all(batch != sorted(batch) for batch in first)


def test_a_whole_batch_keeps_the_order_and_draws_no_random_number():
    critic = Recorder()
    before = torch.random.get_rng_state()
    for size in (None, 10, 11):
        optimizer_fit(
            critic,
            torch.optim.SGD(critic.parameters(), lr=0.0),
            torch.arange(10.0).unsqueeze(-1),
            torch.zeros(10),
            iterations=1,
            batch_size=size,
        )
    assert critic.passes == [list(range(10))] * 3
    assert torch.equal(torch.random.get_rng_state(), before)


def test_minibatches_are_steps_of_the_loop_written_by_hand():
    obs, returns = data()
    critic = critic_of()
    optimizer, by_hand = adam_of(critic), HandWrittenAdam(copy.deepcopy(critic))
    torch.manual_seed(3)
    losses = optimizer_fit(critic, optimizer, obs, returns, iterations=2, batch_size=7)
    torch.manual_seed(3)
    order = torch.randperm(23)
    expected = []
    for rows in (order[:7], order[7:14], order[14:]):  # 7, 7 and 7 + 2 rows
        by_hand.step(obs[rows], returns[rows])
        expected.append(by_hand.step(obs[rows], returns[rows]))
    assert losses == pytest.approx(expected, rel=1e-11)
    assert_same(list(critic.parameters()), list(by_hand.critic.parameters()), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 5, 7, 22, 23, 100])
def test_micro_batches_equal_the_whole(batch_size: int | None, micro_batch_size: int):
    obs, returns = data()
    whole, parts = critic_of(), critic_of()
    results = []
    for critic, micro in ((whole, None), (parts, micro_batch_size)):
        torch.manual_seed(3)
        optimizer = adam_of(critic)
        results.append(
            optimizer_fit(critic, optimizer, obs, returns, iterations=4, batch_size=batch_size, micro_batch_size=micro)
        )
    assert results[0] == pytest.approx(results[1], rel=1e-12)
    assert_same(list(whole.parameters()), list(parts.parameters()), rtol=1e-11, atol=1e-12)


def test_micro_batches_bound_the_rows_of_a_pass():
    critic = Recorder()
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.0)
    optimizer_fit(
        critic,
        optimizer,
        torch.arange(11.0).unsqueeze(-1),
        torch.zeros(11),
        iterations=1,
        batch_size=5,
        micro_batch_size=2,
    )
    assert [len(rows) for rows in critic.passes] == [2, 2, 1, 2, 2, 2]


# --- no steps


@pytest.mark.parametrize("batch_size", [None, 7])
def test_without_iterations_the_losses_are_only_measured(batch_size: int | None):
    obs, returns = data(21)
    critic = critic_of()
    optimizer = adam_of(critic)
    optimizer_fit(critic, optimizer, obs, returns, iterations=1)
    before = state_of(critic, optimizer)
    losses = optimizer_fit(critic, optimizer, obs, returns, iterations=0, batch_size=batch_size)
    assert_same(state_of(critic, optimizer), before, rtol=0, atol=0)
    assert all(p.grad is None for p in critic.parameters())
    expected = float(((critic(obs).squeeze(-1) - returns) ** 2).mean())
    assert sum(losses) / len(losses) == pytest.approx(expected, rel=1e-12)  # minibatches of equal size
    assert len(losses) == (1 if batch_size is None else 3)


# --- numbers that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_a_loss_that_is_not_finite_changes_neither_parameters_nor_moments(bad: float, micro_batch_size: int | None):
    obs, returns = data()
    critic = critic_of()
    optimizer = adam_of(critic)
    optimizer_fit(critic, optimizer, obs, returns, iterations=2)
    before = state_of(critic, optimizer)
    returns[11] = bad
    losses = optimizer_fit(critic, optimizer, obs, returns, iterations=3, micro_batch_size=micro_batch_size)
    assert losses == [LARGEST]
    assert_same(state_of(critic, optimizer), before, rtol=0, atol=0)


def test_the_sound_minibatches_are_still_fitted():
    obs, returns = data()
    returns[11] = math.nan
    critic = critic_of()
    optimizer, by_hand = adam_of(critic), HandWrittenAdam(copy.deepcopy(critic))
    torch.manual_seed(3)
    losses = optimizer_fit(critic, optimizer, obs, returns, iterations=1, batch_size=7)
    torch.manual_seed(3)
    order = torch.randperm(23)
    for i, rows in enumerate((order[:7], order[7:14], order[14:])):
        if 11 in rows:
            assert losses[i] == LARGEST
        else:
            assert losses[i] == pytest.approx(by_hand.step(obs[rows], returns[rows]), rel=1e-11)
    assert_same(list(critic.parameters()), list(by_hand.critic.parameters()), rtol=1e-11, atol=1e-13)


class Distance(nn.Module):
    """A finite value whose derivative is not: sqrt at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, obs: Tensor) -> Tensor:
        return torch.sqrt(((obs * self.weight) ** 2).sum(-1))


def test_a_gradient_that_is_not_finite_changes_neither_parameters_nor_moments():
    critic = Distance()
    optimizer = adam_of(critic)
    obs, returns = torch.ones(4, 3), torch.ones(4)
    optimizer_fit(critic, optimizer, obs, returns, iterations=1)
    before = state_of(critic, optimizer)
    obs[2] = 0.0
    losses = optimizer_fit(critic, optimizer, obs, returns, iterations=2)
    assert all(map(math.isfinite, losses))
    assert_same(state_of(critic, optimizer), before, rtol=0, atol=0)


def test_a_huge_but_finite_loss_leaves_the_moments_finite():
    # The loss 1e37 fits into float32, the square of the gradient 6e3 * 1e18 does not.
    critic = nn.Linear(3, 1)
    optimizer = adam_of(critic)
    losses = optimizer_fit(critic, optimizer, torch.full((4, 3), 1e3), torch.full((4,), 3e18), iterations=1)
    assert all(map(math.isfinite, losses))
    assert all(bool(tensor.isfinite().all()) for tensor in state_of(critic, optimizer))


# --- whose parameters these are


@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_parameters_outside_the_optimiser_get_no_gradient_and_stay(micro_batch_size: int | None):
    obs, returns = data()
    trunk, head = nn.Linear(3, 8, dtype=torch.float64), nn.Linear(8, 1, dtype=torch.float64)
    before = [p.detach().clone() for p in trunk.parameters()]
    head_before = head.weight.detach().clone()
    critic = nn.Sequential(trunk, nn.Tanh(), head)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    optimizer_fit(critic, optimizer, obs, returns, iterations=3, micro_batch_size=micro_batch_size)
    assert all(p.grad is None for p in trunk.parameters())
    assert_same(list(trunk.parameters()), before, rtol=0, atol=0)
    assert not torch.equal(head.weight, head_before)


def test_gradients_from_elsewhere_are_not_added():
    obs, returns = data()
    critic, clean = critic_of(), critic_of()
    for p in critic.parameters():
        p.grad = torch.full_like(p, 1e3)
    for each in (critic, clean):
        optimizer_fit(each, adam_of(each), obs, returns, iterations=1)
    assert_same(list(critic.parameters()), list(clean.parameters()), rtol=0, atol=0)


@pytest.mark.parametrize(
    "freeze",
    [lambda critic: critic[0].weight.requires_grad_(False), lambda critic: critic.requires_grad_(False)],
    ids=["one", "all"],
)
def test_frozen_parameters_are_no_error_and_stay(freeze: Callable[[nn.Sequential], object]):
    obs, returns = data()
    critic = critic_of()
    freeze(critic)
    frozen = [(p, p.detach().clone()) for p in critic.parameters() if not p.requires_grad]
    losses = optimizer_fit(critic, adam_of(critic), obs, returns, iterations=2, micro_batch_size=5)
    assert math.isfinite(losses[0])
    assert all(torch.equal(p, before) for p, before in frozen)


def test_a_parameter_that_the_critic_does_not_use_is_no_error():
    obs, returns = data()
    critic = critic_of()
    critic.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    optimizer_fit(critic, adam_of(critic), obs, returns, iterations=2)
    assert torch.equal(critic.unused, torch.ones(2, dtype=torch.float64))
    assert critic.unused.grad is None


def test_a_fit_lowers_the_error():
    obs, returns = data(200)
    critic = critic_of()
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.03)
    (before,) = optimizer_fit(critic, optimizer, obs, returns, iterations=0)
    (after,) = optimizer_fit(critic, optimizer, obs, returns, iterations=300)
    assert after < 0.01 * before


# --- as objects


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_an_optimizer_fit_is_the_function_with_its_settings(micro_batch_size: int | None):
    obs, returns = data()
    as_function, as_object = critic_of(), critic_of()
    torch.manual_seed(3)
    expected = optimizer_fit(
        as_function,
        adam_of(as_function),
        obs,
        returns,
        iterations=2,
        batch_size=7,
        micro_batch_size=micro_batch_size,
    )
    torch.manual_seed(3)
    task = CriticTask(as_object, adam_of(as_object), obs, returns, micro_batch_size)
    assert OptimizerFit(iterations=2, batch_size=7).fit(task) == expected
    assert_same(list(as_function.parameters()), list(as_object.parameters()), rtol=0, atol=0)


def test_a_minibatch_fit_passes_through_the_rollout_epoch_by_epoch():
    critic = Recorder()
    task = CriticTask(
        critic, torch.optim.SGD(critic.parameters(), lr=0.0), torch.arange(11.0).unsqueeze(-1), torch.zeros(11)
    )
    torch.manual_seed(0)
    losses = MinibatchFit(epochs=3, batch_size=4).fit(task)
    assert [len(rows) for rows in critic.passes] == [4, 7] * 3
    epochs = [critic.passes[i] + critic.passes[i + 1] for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert len(losses) == 2


def test_a_minibatch_fit_takes_the_steps_of_the_loop_written_by_hand():
    obs, returns = data()
    critic = critic_of()
    optimizer, by_hand = adam_of(critic), HandWrittenAdam(copy.deepcopy(critic))
    torch.manual_seed(3)
    losses = MinibatchFit(epochs=2, batch_size=10).fit(CriticTask(critic, optimizer, obs, returns))
    torch.manual_seed(3)
    for _ in range(2):
        order = torch.randperm(23)
        expected = [by_hand.step(obs[rows], returns[rows]) for rows in (order[:10], order[10:])]
    assert losses == pytest.approx(expected, rel=1e-11)
    assert_same(list(critic.parameters()), list(by_hand.critic.parameters()), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: OptimizerFit(iterations=-1), "iterations"),
        (lambda: OptimizerFit(iterations=2.0), "iterations"),
        (lambda: OptimizerFit(batch_size=0), "batch_size"),
        (lambda: MinibatchFit(epochs=0), "epochs"),
        (lambda: MinibatchFit(batch_size=0), "batch_size"),
        (lambda: MinibatchFit(batch_size=None), "batch_size"),
    ],
)
def test_settings_are_checked_when_a_fit_is_built(build: Callable[[], CriticFit], name: str):
    with pytest.raises(ValueError, match=f"^{name} must be an integer >= "):
        build()


# --- the fused kernel of Adam


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_steps_are_the_optimisers_own_and_its_options_stay(kind: type[torch.optim.Optimizer]):
    torch.manual_seed(3)
    obs, returns = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    critic = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    other = copy.deepcopy(critic)
    optimizer, plain = kind(critic.parameters(), lr=1e-2), kind(other.parameters(), lr=1e-2)
    options = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    optimizer_fit(critic, optimizer, obs, returns, iterations=5, batch_size=None)
    for _ in range(5):
        plain.zero_grad()
        (other(obs).flatten() - returns).square().mean().backward()
        plain.step()
    for a, b in zip(critic.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert {key: value for key, value in optimizer.param_groups[0].items() if key != "params"} == options


def test_a_choice_of_kernel_is_respected():
    critic = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(critic.parameters(), foreach=True)
    optimizer_fit(critic, optimizer, torch.randn(5, 3), torch.randn(5), iterations=2, batch_size=None)
    assert (optimizer.param_groups[0]["foreach"], optimizer.param_groups[0]["fused"]) == (True, None)
