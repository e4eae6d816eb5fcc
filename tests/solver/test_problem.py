"""Objective, gradient, Fisher operator and evaluation of a rollout, against the equations written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from dense import (
    CATEGORICAL,
    FAMILIES,
    NORMAL,
    DensePolicy,
    DenseProblem,
    Family,
    dense,
    double,
    families,
    point,
    problem_of,
)
from fisher_cases import OBS, normal_of
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from torch import Tensor
from torch.distributions import Distribution, Independent, LogNormal


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize(
    "constant",
    [lambda x: normal_of(x, torch.ones_like(x)), lambda x: Independent(LogNormal(x, torch.ones_like(x)), 1)],
    ids=["known", "unknown"],
)
def test_a_constant_distribution_has_a_zero_gradient(
    constant: Callable[[Tensor], Independent], micro_batch_size: int | None
):
    # As when the only trainable parameter of a policy is one that its output does not use.
    theta, act = double(0.3, -0.2), torch.exp(OBS)
    problem, start = problem_of(
        lambda t, rows: constant(OBS[rows]),
        theta,
        act=act,
        adv=double(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        micro_batch_size=micro_batch_size,
    )
    for place in (start, point(theta)):
        linearisation = problem.linearise(place)
        assert torch.equal(linearisation.gradient, torch.zeros_like(theta))
        assert torch.equal(linearisation.fisher(theta), torch.zeros_like(theta))


# --- the problem: gradient, operator and evaluation over the rollout


@families
@pytest.mark.parametrize("ent_coef", [0.0, 0.7])
@pytest.mark.parametrize("distance", [0.0, 0.3])
def test_a_problem_is_its_equations(family: Family, ent_coef: float, distance: float):
    case = DenseProblem(DensePolicy(family), ent_coef=ent_coef)
    theta = case.policy.moved(distance)
    linearisation, evaluation = case.problem.linearise(point(theta)), case.problem.evaluate(theta)
    size = len(theta)
    torch.testing.assert_close(linearisation.gradient, case.gradient(theta), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dense(linearisation.fisher, size), case.policy.fisher(theta), rtol=1e-9, atol=1e-11)
    assert linearisation.objective == pytest.approx(float(case.objective(theta)), rel=1e-11)
    assert evaluation.objective == pytest.approx(float(case.objective(theta)), rel=1e-11)
    assert evaluation.kl == pytest.approx(float(case.policy.kl(case.policy.theta, theta)), rel=1e-9, abs=1e-12)
    assert evaluation.entropy == pytest.approx(float(case.policy.distribution(theta).entropy().mean()), rel=1e-11)


@families
def test_at_the_start_the_ratio_is_one_and_the_divergence_zero(family: Family):
    case = DenseProblem(DensePolicy(family))
    start = case.start
    assert start.theta is case.problem.theta_old
    assert start.evaluation.objective == pytest.approx(float(case.adv.mean()), rel=1e-9)
    assert start.evaluation.kl == pytest.approx(0.0, abs=1e-12)
    evaluated = case.problem.evaluate(case.policy.theta)
    assert start.evaluation.objective == pytest.approx(evaluated.objective, rel=1e-12)


@families
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 6, 7, 50])
def test_micro_batches_equal_the_single_batch(family: Family, micro_batch_size: int):
    single = DenseProblem(DensePolicy(family), ent_coef=0.2)
    parts = DenseProblem(DensePolicy(family), ent_coef=0.2, micro_batch_size=micro_batch_size)
    theta = single.policy.moved(0.2)
    expected, got = single.problem.linearise(point(theta)), parts.problem.linearise(point(theta))
    v = torch.ones_like(theta)
    torch.testing.assert_close(got.gradient, expected.gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got.fisher(v), expected.fisher(v), rtol=1e-12, atol=1e-12)
    assert got.objective == pytest.approx(expected.objective, rel=1e-12)
    for a, b in [
        (parts.problem.evaluate(theta), single.problem.evaluate(theta)),
        (parts.start.evaluation, single.start.evaluation),
    ]:
        assert a.objective == pytest.approx(b.objective, rel=1e-12)
        assert a.kl == pytest.approx(b.kl, rel=1e-11, abs=1e-13)
        assert a.entropy == pytest.approx(b.entropy, rel=1e-12)
        assert (a.action_std is None) == (b.action_std is None)
        if a.action_std is not None:
            assert a.action_std == pytest.approx(b.action_std, rel=1e-12)


SUBSETS = [
    (7, 1.0, [0, 1, 2, 3, 4, 5, 6]),
    (7, 0.9999, [0, 1, 2, 3, 4, 5, 6]),
    (7, 0.43, [0, 2, 4]),
    (10, 0.3, [0, 3, 6]),
    (10, 0.5, [0, 2, 4, 6, 8]),
    (10, 0.75, [0, 1, 2, 3, 5, 6, 7, 8]),  # 7.5 rounds to 8
    (7, 0.1, [0]),
    (7, 1e-9, [0]),
    (1, 0.5, [0]),
]


@pytest.mark.parametrize(("count", "fraction", "rows"), SUBSETS)
@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_fisher_subsampling_takes_evenly_spaced_rows(
    count: int, fraction: float, rows: list[int], micro_batch_size: int | None
):
    case = DenseProblem(DensePolicy(NORMAL, rows=count), fisher_subsampling=fraction, micro_batch_size=micro_batch_size)
    theta = case.policy.theta
    linearisation = case.problem.linearise(case.start)
    expected = case.policy.fisher(theta, torch.tensor(rows))
    torch.testing.assert_close(dense(linearisation.fisher, len(theta)), expected, rtol=1e-9, atol=1e-11)
    # Gradient and evaluation still see every row.
    torch.testing.assert_close(linearisation.gradient, case.gradient(theta), rtol=1e-10, atol=1e-13)
    moved = case.policy.moved(0.1)
    assert case.problem.evaluate(moved).kl == pytest.approx(float(case.policy.kl(theta, moved)), rel=1e-9)


@examples(40)
@given(count=st.integers(1, 30), fraction=st.floats(0.01, 1.0), micro=st.one_of(st.none(), st.integers(1, 8)))
def test_subsampled_rows_are_distinct_in_range_and_in_parts_no_larger_than_the_micro_batch(
    count: int, fraction: float, micro: int | None
):
    seen: list[list[int]] = []
    numbers = torch.arange(count)

    def distribution(theta: Tensor, rows: slice | Tensor) -> Independent:
        seen.append(numbers[rows].tolist())
        return normal_of(theta.expand(len(numbers[rows]), 1), torch.ones(len(numbers[rows]), 1))

    problem, start = problem_of(
        distribution,
        torch.zeros(1),
        act=torch.zeros(count, 1),
        adv=torch.ones(count),
        micro_batch_size=micro,
        fisher_subsampling=fraction,
    )
    linearisation = problem.linearise(start)
    seen.clear()
    linearisation.fisher(torch.ones(1))
    rows = [row for part in seen for row in part]
    if rows:  # empty where the graph of a single part was kept
        assert rows == sorted(set(rows))
        assert len(rows) == max(1, round(fraction * count))
    assert all(len(part) <= (micro or count) for part in seen)


def test_a_product_of_the_problem_draws_no_random_number():
    case = DenseProblem(DensePolicy(CATEGORICAL), fisher_subsampling=0.5, micro_batch_size=2)
    before = torch.random.get_rng_state()
    case.problem.linearise(case.start).fisher(case.policy.theta)
    case.problem.evaluate(case.policy.moved(0.1))
    assert torch.equal(torch.random.get_rng_state(), before)


# --- what the evaluation does with numbers that are not finite


@families
@pytest.mark.parametrize("validate", [True, False])
def test_parameters_that_are_not_a_number_evaluate_to_numbers_that_are_not_finite(family: Family, validate: bool):
    case = DenseProblem(DensePolicy(family))
    before = Distribution._validate_args
    Distribution.set_default_validate_args(validate)
    try:
        evaluation = case.problem.evaluate(case.policy.theta * math.nan)
    finally:
        Distribution.set_default_validate_args(before)
    assert not evaluation.is_finite


def test_the_behaviour_policy_is_kept_in_float64_for_float32_networks():
    theta = torch.tensor([0.3, -0.2])
    obs = OBS.float()

    def distribution(t: Tensor, rows: slice | Tensor) -> Independent:
        return normal_of(obs[rows] * t, torch.full_like(obs[rows], 0.5))

    problem, start = problem_of(distribution, theta, act=obs, adv=obs[:, 0])
    moved = theta + torch.tensor([1e-3, 2e-3])
    difference = (obs * moved).double() - (obs * theta).double()
    assert problem.evaluate(moved).kl == pytest.approx(float((2 * difference**2).sum(-1).mean()), rel=1e-10)
    assert problem.linearise(start).gradient.dtype is torch.float32


@pytest.mark.parametrize("name", ["normal", "categorical-logits", "bernoulli-logits"])
def test_the_objective_is_computed_in_float64_for_float32_networks(name: str):
    family = next(f for f in FAMILIES if f.name == name)
    outputs = torch.randn(50, family.width, generator=torch.Generator().manual_seed(0))

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return family.build(*family.own(outputs[rows] * t))

    def log_probability(t: Tensor) -> Tensor:
        parts = [part.double() for part in family.own(outputs * t)]
        if name == "normal":
            return -(((act - parts[0]) / parts[1]) ** 2 / 2 + torch.log(parts[1]) + math.log(2 * math.pi) / 2).sum(-1)
        if name == "categorical-logits":
            return distribution(t, slice(None)).logits.double().log_softmax(-1).gather(1, act[:, None]).squeeze(1)
        return torch.where(act == 1, -torch.log1p(torch.exp(-parts[0])), -torch.log1p(torch.exp(parts[0]))).sum(-1)

    torch.manual_seed(1)
    start, end = torch.ones(1), torch.tensor([1.001])
    act, adv = distribution(start, slice(None)).sample(), torch.randn(50)
    logp_old = log_probability(start)
    problem, _ = problem_of(distribution, start, act=act, adv=adv)
    expected = (torch.exp(log_probability(end) - logp_old) * adv.double()).mean()
    assert problem.evaluate(end).objective == pytest.approx(float(expected), rel=1e-11)
