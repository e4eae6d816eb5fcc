"""Direction and length of a step against dense algebra, and the bound for any policy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from dense import CATEGORICAL, FAMILIES, NORMAL, DensePolicy, DenseProblem, Family, generator, problem_of
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from steps import npg, trpo
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.kfac.settings import KFAC
from trpo_ts.solver.conjugate_gradient import SolveStatus
from trpo_ts.solver.outcomes import StepOutcome
from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.solver.trust_region import SolverSettings, natural_gradient

both = pytest.mark.parametrize("family", [NORMAL, CATEGORICAL], ids=str)


def dense_direction(case: DenseProblem, theta: Tensor, damping: float) -> tuple[Tensor, float]:
    """(F + cI)^-1 g and the square of its length in the norm of F + cI, from the dense Fisher matrix."""
    damped = case.policy.fisher(theta) + damping * torch.eye(len(theta), dtype=torch.float64)
    gradient = case.gradient(theta)
    x = torch.linalg.solve(damped, gradient)
    return x, float(x.dot(damped @ x))


# --- direction and length against dense algebra


@both
@pytest.mark.parametrize("damping", [1.0, 0.1, 1e-3])
def test_the_direction_is_the_dense_natural_gradient(family: Family, damping: float):
    case = DenseProblem(DensePolicy(family, rows=30))
    step = trpo(case.problem, case.start, solver=SolverSettings(400, damping, 1e-13))
    x, curvature = dense_direction(case, case.policy.theta, damping)
    torch.testing.assert_close(step.direction.gradient, case.gradient(case.policy.theta), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(step.direction.solution.x, x, rtol=1e-7, atol=1e-9)
    assert step.direction.solution.curvature == pytest.approx(curvature, rel=1e-8)
    assert step.direction.solution.status is SolveStatus.CONVERGED


@both
@pytest.mark.parametrize("max_kl", [1e-3, 0.01, 0.1])
def test_the_full_step_has_the_length_of_the_trust_region(family: Family, max_kl: float):
    case = DenseProblem(DensePolicy(family, rows=30))
    step = trpo(case.problem, case.start, max_kl=max_kl)
    x, curvature = dense_direction(case, case.policy.theta, 0.1)
    full = math.sqrt(2 * max_kl / curvature)
    assert step.accepted
    assert step.step_size == pytest.approx(step.fraction * full, rel=1e-8)
    assert step.fraction == pytest.approx(0.8**step.backtracks, rel=1e-12)
    torch.testing.assert_close(step.end.theta, case.policy.theta + step.fraction * full * x, rtol=1e-7, atol=1e-9)


@both
def test_the_end_is_described_by_the_equations(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30))
    step = trpo(case.problem, case.start)
    start, end = case.policy.theta, step.end.theta
    kl = float(case.policy.kl(start, end))
    assert 0 < kl <= 0.01
    assert step.end.evaluation.kl == pytest.approx(kl, rel=1e-9)
    assert step.end.evaluation.objective == pytest.approx(float(case.objective(end)), rel=1e-10)
    assert step.improvement == pytest.approx(float(case.objective(end) - case.objective(start)), rel=1e-9)
    assert step.improvement > 0
    expected = float(case.gradient(start).dot(end - start))
    assert step.expected_improvement == pytest.approx(expected, rel=1e-9)


@both
def test_a_later_step_solves_where_it_stands_and_is_anchored_at_the_behaviour_policy(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30))
    first = trpo(case.problem, case.start, max_kl=0.02)
    second = trpo(case.problem, first.end, max_kl=0.02)
    x, curvature = dense_direction(case, first.end.theta, 0.1)
    full = math.sqrt(0.04 / curvature) * x
    start, anchor = first.end.theta, case.policy.theta
    expected = (1 - second.fraction) * start + second.fraction * (anchor + full)
    assert second.accepted
    torch.testing.assert_close(second.end.theta, expected, rtol=1e-7, atol=1e-9)


@both
@pytest.mark.parametrize("size", [0.1, 1.0])
def test_a_natural_gradient_step_has_a_fixed_factor(family: Family, size: float):
    case = DenseProblem(DensePolicy(family, rows=30))
    step = npg(case.problem, case.start, factor=size)
    x, _ = dense_direction(case, case.policy.theta, 0.1)
    torch.testing.assert_close(step.end.theta, case.policy.theta + size * x, rtol=1e-7, atol=1e-9)
    assert (step.step_size, step.fraction, step.backtracks, step.accepted) == (size, 1.0, 0, True)
    assert step.end.evaluation.kl == pytest.approx(float(case.policy.kl(case.policy.theta, step.end.theta)), rel=1e-9)


@both
def test_a_later_natural_gradient_step_starts_where_it_stands(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30))
    first = npg(case.problem, case.start, factor=0.1)
    second = npg(case.problem, first.end, factor=0.1)
    x, _ = dense_direction(case, first.end.theta, 0.1)
    torch.testing.assert_close(second.end.theta, first.end.theta + 0.1 * x, rtol=1e-7, atol=1e-9)


@both
def test_the_entropy_bonus_enters_gradient_and_line_search(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30), ent_coef=0.5)
    step = trpo(case.problem, case.start)
    x, curvature = dense_direction(case, case.policy.theta, 0.1)
    torch.testing.assert_close(step.direction.solution.x, x, rtol=1e-7, atol=1e-9)
    assert step.direction.solution.curvature == pytest.approx(curvature, rel=1e-8)
    assert step.improvement == pytest.approx(
        float(case.objective(step.end.theta) - case.objective(case.policy.theta)), rel=1e-9
    )


@both
def test_subsampling_changes_the_operator_and_neither_gradient_nor_bound(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30), fisher_subsampling=0.1)
    step = trpo(case.problem, case.start)
    theta = case.policy.theta
    damped = case.policy.fisher(theta, torch.tensor([0, 10, 20])) + 0.1 * torch.eye(len(theta), dtype=torch.float64)
    torch.testing.assert_close(
        step.direction.solution.x, torch.linalg.solve(damped, case.gradient(theta)), rtol=1e-7, atol=1e-9
    )
    assert float(case.policy.kl(theta, step.end.theta)) <= 0.01


@pytest.mark.parametrize("iterations", [1, 3])
def test_few_iterations_still_scale_by_their_own_curvature(iterations: int):
    case = DenseProblem(DensePolicy(NORMAL, rows=30))
    step = trpo(case.problem, case.start, solver=SolverSettings(iterations, 0.1, 0.0))
    damped = case.policy.fisher(case.policy.theta) + 0.1 * torch.eye(len(case.policy.theta), dtype=torch.float64)
    x = step.direction.solution.x
    assert step.direction.solution.iterations == iterations
    assert step.step_size / step.fraction == pytest.approx(math.sqrt(0.02 / float(x.dot(damped @ x))), rel=1e-9)


# --- with a preconditioner


class TanhPolicy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, obs: Tensor) -> Distribution:
        return Categorical(logits=self.network(obs))


def tanh_network_problem() -> tuple[PolicyProblem, Point]:
    torch.manual_seed(0)
    obs = torch.randn(60, 3, dtype=torch.float64)
    policy = RowFunction(TanhPolicy().double(), lambda rows: (obs[rows],), 60, record_layers=True)
    act = policy(policy.parameters.read(), slice(None)).sample()
    return PolicyProblem.of_rollout(policy, act=act, adv=torch.randn(60, dtype=torch.float64))


@pytest.mark.parametrize("inner_iterations", [1, 4])
def test_a_preconditioner_does_not_change_what_the_solve_converges_to(inner_iterations: int):
    problem, start = tanh_network_problem()
    plain = trpo(problem, start, solver=SolverSettings(400, 1e-3, 1e-12))
    kfac = trpo(problem, start, solver=SolverSettings(400, 1e-3, 1e-12, KFAC(inner_iterations)))
    torch.testing.assert_close(kfac.direction.solution.x, plain.direction.solution.x, rtol=1e-6, atol=1e-8)
    assert kfac.direction.solution.curvature == pytest.approx(plain.direction.solution.curvature, rel=1e-6)
    assert kfac.direction.solution.status is SolveStatus.CONVERGED


def test_a_preconditioned_step_of_few_products_keeps_the_bound_and_is_closer_to_the_optimum():
    problem, start = tanh_network_problem()
    exact = trpo(problem, start, solver=SolverSettings(400, 1e-3, 1e-12))
    gains = []
    for preconditioner in (None, KFAC()):
        step = trpo(problem, start, solver=SolverSettings(3, 1e-3, 0.0, preconditioner))
        assert step.accepted
        assert step.end.evaluation.kl <= 0.01
        direction = step.end.theta - problem.theta_old
        fisher = problem.linearise(start).fisher
        length = math.sqrt(float(direction.dot(fisher(direction) + 1e-3 * direction)))
        # The share of the largest first-order improvement that a direction of this length can have.
        gains.append(
            float(step.direction.gradient.dot(direction)) / (length * math.sqrt(exact.direction.solution.curvature))
        )
    plain, preconditioned = gains
    assert 0.0 < plain < preconditioned <= 1.0 + 1e-9


@both
def test_where_there_is_nothing_to_factor_a_loose_tolerance_is_not_taken(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30))  # its parameters are in no layer
    linearisation = case.problem.linearise(case.start)
    loose, plain = (
        natural_gradient(case.problem, linearisation, SolverSettings(100, 1e-3, 0.9, preconditioner))
        for preconditioner in (KFAC(), None)
    )
    assert loose.solution.relative_residual <= 0.01
    assert plain.solution.iterations < loose.solution.iterations
    assert (loose.preconditioned, plain.preconditioned) == (True, False)


# --- a problem whose divergence is its quadratic model


def linear_gaussian(rows: int = 40, **settings: Any) -> tuple[PolicyProblem, Point, Tensor]:
    obs = torch.randn(rows, 3, dtype=torch.float64, generator=generator(1))
    theta = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
    act = obs @ theta + torch.randn(rows, dtype=torch.float64, generator=generator(2))
    adv = torch.randn(rows, dtype=torch.float64, generator=generator(3))

    def distribution(t: Tensor, part: slice | Tensor) -> Normal:
        return Normal(obs[part] @ t, torch.ones(len(obs[part]), dtype=torch.float64))

    return *problem_of(distribution, theta, act=act, adv=adv, **settings), obs


@pytest.mark.parametrize("max_kl", [1e-6, 1e-3, 0.01])
def test_the_full_step_is_accepted_where_the_models_are_exact(max_kl: float):
    problem, start, obs = linear_gaussian()
    step = trpo(problem, start, max_kl=max_kl, solver=SolverSettings(10, 0.01, 0.0))
    assert (step.outcome, step.fraction, step.backtracks) == (StepOutcome.ACCEPTED, 1.0, 0)
    fisher = obs.mT @ obs / len(obs)
    x = torch.linalg.solve(fisher + 0.01 * torch.eye(3, dtype=torch.float64), step.direction.gradient)
    share = float(x.dot(fisher @ x) / (x.dot(fisher @ x) + 0.01 * x.dot(x)))
    assert step.end.evaluation.kl == pytest.approx(max_kl * share, rel=1e-9)
    assert step.improvement == pytest.approx(step.expected_improvement, rel=3 * math.sqrt(max_kl) + 1e-6)


def test_without_damping_the_full_step_ends_on_the_bound():
    problem, start, _ = linear_gaussian()
    step = trpo(problem, start, max_kl=0.01, solver=SolverSettings(10, 0.0, 0.0), backtrack_coeff=0.999)
    assert step.accepted
    assert 0.99 * 0.01 < step.end.evaluation.kl <= 0.01


# --- the contract, for any policy


@examples(60)
@given(
    family=st.sampled_from(FAMILIES),
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 20),
    hidden=st.integers(1, 6),
    max_kl=st.floats(1e-6, 2.0),
    damping=st.sampled_from([0.0, 1e-3, 0.1]),
    iterations=st.integers(1, 12),
    repeat=st.integers(1, 4),
    subsampling=st.sampled_from([1.0, 0.4]),
)
def test_repeated_steps_keep_the_bound_and_raise_the_objective(
    family: Family,
    seed: int,
    rows: int,
    hidden: int,
    max_kl: float,
    damping: float,
    iterations: int,
    repeat: int,
    subsampling: float,
):
    case = DenseProblem(DensePolicy(family, rows, hidden, seed), seed, fisher_subsampling=subsampling)
    behaviour, here = case.policy.theta.clone(), case.start
    for _ in range(repeat):
        step = trpo(case.problem, here, max_kl=max_kl, solver=SolverSettings(iterations, damping, 0.0))
        if step.accepted:
            assert float(case.policy.kl(behaviour, step.end.theta)) <= max_kl * (1 + 1e-9) + 1e-13
            assert step.end.evaluation.kl <= max_kl
            assert float(case.objective(step.end.theta)) > float(case.objective(here.theta)) - 1e-12
            assert step.improvement > 0
        else:
            assert step.end is step.start
            assert step.end.theta is here.theta
        here = step.end
    assert torch.equal(case.policy.theta, behaviour)
    assert torch.equal(case.problem.theta_old, behaviour)


@examples(25)
@given(seed=st.integers(0, 10_000), max_kl=st.floats(1e-5, 0.1), scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e3, 1e20]))
def test_in_float32_the_bound_holds_for_advantages_of_any_scale(seed: int, max_kl: float, scale: float):
    obs = torch.randn(30, 3, generator=generator(seed))
    theta = torch.randn(8, generator=generator(seed + 1)) * 0.3
    act = torch.randn(30, 2, generator=generator(seed + 2))

    def distribution(t: Tensor, rows: slice | Tensor) -> Independent:
        loc = torch.tanh(obs[rows] @ t[:6].view(3, 2))
        return Independent(Normal(loc, torch.exp(t[6:]).expand_as(loc)), 1)

    problem, start = problem_of(
        distribution, theta, act=act, adv=scale * torch.randn(30, generator=generator(seed + 3))
    )
    step = trpo(problem, start, max_kl=max_kl, solver=SolverSettings(10, 0.1, 1e-5))
    assert step.accepted
    (m, s), (m_new, s_new) = (
        (torch.tanh(obs @ t[:6].view(3, 2)).double(), torch.exp(t[6:]).double()) for t in (theta, step.end.theta)
    )
    kl = (torch.log(s_new / s) + (s**2 + (m - m_new) ** 2) / (2 * s_new**2) - 0.5).sum(-1).mean()
    assert 0 < float(kl) <= max_kl * (1 + 1e-6)


def test_the_scale_of_the_advantages_does_not_change_the_step():
    case = DenseProblem(DensePolicy(NORMAL, rows=30))
    step = trpo(case.problem, case.start)
    case.problem.adv = case.problem.adv * 1e30
    start = Point(case.start.theta, case.problem.evaluate(case.start.theta))
    torch.testing.assert_close(trpo(case.problem, start).end.theta, step.end.theta, rtol=1e-9, atol=1e-11)
