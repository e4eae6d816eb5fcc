from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dense import CATEGORICAL, FAMILIES, NORMAL, DensePolicy, DenseProblem, Family, generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MultivariateNormal, Normal

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.kfac.settings import KFAC
from trpo_ts.solver.conjugate_gradient import SolveOutcome
from trpo_ts.solver.outcomes import StepOutcome
from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.solver.trust_region import PolicyStep, SolverSettings, natural_gradient_step, trust_region_step

EXACT = SolverSettings(iterations=400, damping=0.1, tolerance=1e-13)
both = pytest.mark.parametrize("family", [NORMAL, CATEGORICAL], ids=str)


def trpo(problem: PolicyProblem, start: Point | None = None, **settings: Any) -> PolicyStep:
    values = {"solver": EXACT, "max_kl": 0.01, "backtrack_coeff": 0.8, "max_backtracks": 10, **settings}
    return trust_region_step(problem, start or problem.start, **values)


def npg(problem: PolicyProblem, start: Point | None = None, **settings: Any) -> PolicyStep:
    return natural_gradient_step(
        problem, start or problem.start, **{"solver": EXACT, "trust_region_size": 0.5, **settings}
    )


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
    step = trpo(case.problem, solver=SolverSettings(400, damping, 1e-13))
    x, curvature = dense_direction(case, case.policy.theta, damping)
    torch.testing.assert_close(step.gradient, case.gradient(case.policy.theta), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(step.solution.x, x, rtol=1e-7, atol=1e-9)
    assert step.solution.curvature == pytest.approx(curvature, rel=1e-8)
    assert step.solution.outcome is SolveOutcome.CONVERGED


@both
@pytest.mark.parametrize("max_kl", [1e-3, 0.01, 0.1])
def test_the_full_step_has_the_length_of_the_trust_region(family: Family, max_kl: float):
    case = DenseProblem(DensePolicy(family, rows=30))
    step = trpo(case.problem, max_kl=max_kl)
    x, curvature = dense_direction(case, case.policy.theta, 0.1)
    full = math.sqrt(2 * max_kl / curvature)
    assert step.accepted
    assert step.step_size == pytest.approx(step.fraction * full, rel=1e-8)
    assert step.fraction == pytest.approx(0.8**step.backtracks, rel=1e-12)
    torch.testing.assert_close(step.end.theta, case.policy.theta + step.fraction * full * x, rtol=1e-7, atol=1e-9)


@both
def test_the_end_is_described_by_the_equations(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30))
    step = trpo(case.problem)
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
    first = trpo(case.problem, max_kl=0.02)
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
    step = npg(case.problem, trust_region_size=size)
    x, _ = dense_direction(case, case.policy.theta, 0.1)
    torch.testing.assert_close(step.end.theta, case.policy.theta + size * x, rtol=1e-7, atol=1e-9)
    assert (step.step_size, step.fraction, step.backtracks, step.accepted) == (size, 1.0, 0, True)
    assert step.end.evaluation.kl == pytest.approx(float(case.policy.kl(case.policy.theta, step.end.theta)), rel=1e-9)


@both
def test_a_later_natural_gradient_step_starts_where_it_stands(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30))
    first = npg(case.problem, trust_region_size=0.1)
    second = npg(case.problem, first.end, trust_region_size=0.1)
    x, _ = dense_direction(case, first.end.theta, 0.1)
    torch.testing.assert_close(second.end.theta, first.end.theta + 0.1 * x, rtol=1e-7, atol=1e-9)


@both
def test_the_entropy_bonus_enters_gradient_and_line_search(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30), ent_coef=0.5)
    step = trpo(case.problem)
    x, curvature = dense_direction(case, case.policy.theta, 0.1)
    torch.testing.assert_close(step.solution.x, x, rtol=1e-7, atol=1e-9)
    assert step.solution.curvature == pytest.approx(curvature, rel=1e-8)
    assert step.improvement == pytest.approx(
        float(case.objective(step.end.theta) - case.objective(case.policy.theta)), rel=1e-9
    )


@both
def test_subsampling_changes_the_operator_and_neither_gradient_nor_bound(family: Family):
    case = DenseProblem(DensePolicy(family, rows=30), fisher_subsampling=0.1)
    step = trpo(case.problem)
    theta = case.policy.theta
    damped = case.policy.fisher(theta, torch.tensor([0, 10, 20])) + 0.1 * torch.eye(len(theta), dtype=torch.float64)
    torch.testing.assert_close(step.solution.x, torch.linalg.solve(damped, case.gradient(theta)), rtol=1e-7, atol=1e-9)
    assert float(case.policy.kl(theta, step.end.theta)) <= 0.01


@pytest.mark.parametrize("iterations", [1, 3])
def test_few_iterations_still_scale_by_their_own_curvature(iterations: int):
    case = DenseProblem(DensePolicy(NORMAL, rows=30))
    step = trpo(case.problem, solver=SolverSettings(iterations, 0.1, 0.0))
    damped = case.policy.fisher(case.policy.theta) + 0.1 * torch.eye(len(case.policy.theta), dtype=torch.float64)
    x = step.solution.x
    assert step.solution.iterations == iterations
    assert step.step_size / step.fraction == pytest.approx(math.sqrt(0.02 / float(x.dot(damped @ x))), rel=1e-9)


# --- with a preconditioner


class TanhPolicy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, obs: Tensor) -> Distribution:
        return Categorical(logits=self.network(obs))


def tanh_network_problem() -> tuple[PolicyProblem, FlatParameters]:
    torch.manual_seed(0)
    obs = torch.randn(60, 3, dtype=torch.float64)
    parameters = FlatParameters(TanhPolicy().double())
    theta = parameters.read()
    behaviour = parameters.call(theta, obs)
    act = behaviour.sample()
    problem = PolicyProblem(
        lambda t, rows: parameters.call(t, obs[rows]),
        theta,
        act=act,
        adv=torch.randn(60, dtype=torch.float64),
        trace=lambda t, rows: parameters.trace(t, obs[rows]),
        kfac=KFAC(),
    )
    return problem, parameters


@pytest.mark.parametrize("inner_iterations", [1, 4])
def test_a_preconditioner_does_not_change_what_the_solve_converges_to(inner_iterations: int):
    problem, parameters = tanh_network_problem()
    plain = trpo(problem, solver=SolverSettings(400, 1e-3, 1e-12))
    kfac = trpo(problem, solver=SolverSettings(400, 1e-3, 1e-12, KFAC(inner_iterations), parameters.slices))
    torch.testing.assert_close(kfac.solution.x, plain.solution.x, rtol=1e-6, atol=1e-8)
    assert kfac.solution.curvature == pytest.approx(plain.solution.curvature, rel=1e-6)
    assert kfac.solution.outcome is SolveOutcome.CONVERGED


def test_a_preconditioned_step_of_few_products_keeps_the_bound_and_is_closer_to_the_optimum():
    problem, parameters = tanh_network_problem()
    exact = trpo(problem, solver=SolverSettings(400, 1e-3, 1e-12))
    gains = []
    for preconditioner in (None, KFAC()):
        step = trpo(problem, solver=SolverSettings(3, 1e-3, 0.0, preconditioner, parameters.slices))
        assert step.accepted
        assert step.end.evaluation.kl <= 0.01
        direction = step.end.theta - problem.theta_old
        fisher = problem.linearise(problem.theta_old).fisher
        length = math.sqrt(float(direction.dot(fisher(direction) + 1e-3 * direction)))
        # The share of the largest first-order improvement that a direction of this length can have.
        gains.append(float(step.gradient.dot(direction)) / (length * math.sqrt(exact.solution.curvature)))
    plain, preconditioned = gains
    assert 0.0 < plain < preconditioned <= 1.0 + 1e-9


# --- a problem whose divergence is its quadratic model


def linear_gaussian(rows: int = 40, **settings: Any) -> tuple[PolicyProblem, Tensor]:
    obs = torch.randn(rows, 3, dtype=torch.float64, generator=generator(1))
    theta = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
    act = obs @ theta + torch.randn(rows, dtype=torch.float64, generator=generator(2))
    adv = torch.randn(rows, dtype=torch.float64, generator=generator(3))

    def distribution(t: Tensor, part: slice | Tensor) -> Normal:
        return Normal(obs[part] @ t, torch.ones(len(obs[part]), dtype=torch.float64))

    return PolicyProblem(distribution, theta, act=act, adv=adv, **settings), obs


@pytest.mark.parametrize("max_kl", [1e-6, 1e-3, 0.01])
def test_the_full_step_is_accepted_where_the_models_are_exact(max_kl: float):
    problem, obs = linear_gaussian()
    step = trpo(problem, max_kl=max_kl, solver=SolverSettings(10, 0.01, 0.0))
    assert (step.outcome, step.fraction, step.backtracks) == (StepOutcome.ACCEPTED, 1.0, 0)
    fisher = obs.mT @ obs / len(obs)
    x = torch.linalg.solve(fisher + 0.01 * torch.eye(3, dtype=torch.float64), step.gradient)
    share = float(x.dot(fisher @ x) / (x.dot(fisher @ x) + 0.01 * x.dot(x)))
    assert step.end.evaluation.kl == pytest.approx(max_kl * share, rel=1e-9)
    assert step.improvement == pytest.approx(step.expected_improvement, rel=3 * math.sqrt(max_kl) + 1e-6)


def test_without_damping_the_full_step_ends_on_the_bound():
    problem, _ = linear_gaussian()
    step = trpo(problem, max_kl=0.01, solver=SolverSettings(10, 0.0, 0.0), backtrack_coeff=0.999)
    assert step.accepted
    assert 0.99 * 0.01 < step.end.evaluation.kl <= 0.01


# --- every outcome


def normal_with(
    mean: Callable[[Tensor], Tensor], *, act: list[float], adv: list[float], **settings: Any
) -> PolicyProblem:
    """One observation, one parameter that starts at zero, a unit standard deviation."""
    theta = torch.zeros(1, dtype=torch.float64)
    actions, advantages = torch.tensor(act).double(), torch.tensor(adv).double()

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return Normal(mean(t).expand(len(actions))[rows], torch.ones_like(actions[rows]))

    return PolicyProblem(distribution, theta, act=actions, adv=advantages, **settings)


def flat_on_the_first_row() -> PolicyProblem:
    obs = torch.tensor([0.0, 1.0, 2.0]).double()
    theta, act = torch.zeros(1, dtype=torch.float64), torch.tensor([1.0, 1.0, -1.0]).double()

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return Normal(obs[rows] * t, torch.ones_like(obs[rows]))

    return PolicyProblem(
        distribution,
        theta,
        act=act,
        adv=torch.tensor([1.0, 2.0, 3.0]).double(),
        fisher_subsampling=0.3,
    )


UNDAMPED = SolverSettings(10, 0.0, 0.0)
IDENTITY = {"mean": lambda t: t}
FAILURES: list[tuple[StepOutcome, Callable[[], PolicyProblem], dict[str, Any]]] = [
    (StepOutcome.CONSTANT_ADVANTAGES, lambda: normal_with(**IDENTITY, act=[1.0, 2.0], adv=[0.0, 0.0]), {}),
    (StepOutcome.CONSTANT_ADVANTAGES, lambda: normal_with(**IDENTITY, act=[1.0, 2.0], adv=[5.0, 5.0]), {}),
    (StepOutcome.CONSTANT_ADVANTAGES, lambda: normal_with(**IDENTITY, act=[1.0, 2.0], adv=[0.1, 0.1 + 1e-16]), {}),
    (StepOutcome.CONSTANT_ADVANTAGES, lambda: normal_with(**IDENTITY, act=[1.0], adv=[3.0]), {}),
    # Every action is the mean.
    (StepOutcome.ZERO_GRADIENT, lambda: normal_with(**IDENTITY, act=[0.0, 0.0], adv=[1.0, 2.0]), {}),
    (StepOutcome.NON_FINITE_GRADIENT, lambda: normal_with(**IDENTITY, act=[1.0, 2.0], adv=[1.0, math.nan]), {}),
    (StepOutcome.NON_FINITE_GRADIENT, lambda: normal_with(**IDENTITY, act=[1.0, 2.0], adv=[1.0, math.inf]), {}),
    (StepOutcome.NON_FINITE_GRADIENT, lambda: normal_with(**IDENTITY, act=[1.0, 2.0], adv=[math.nan] * 2), {}),
    (
        StepOutcome.NON_FINITE_GRADIENT,
        lambda: normal_with(mean=lambda t: torch.sqrt(t), act=[1.0, 2.0], adv=[1.0, 2.0]),
        {},
    ),
    # The operator sees the first row only, whose mean does not depend on the parameter.
    (StepOutcome.NON_POSITIVE_CURVATURE, flat_on_the_first_row, {"solver": UNDAMPED}),
    # The divergence grows much faster than its quadratic model.
    (
        StepOutcome.KL_ABOVE_BOUND,
        lambda: normal_with(mean=lambda t: torch.sinh(5 * t), act=[1.0, 2.0], adv=[-1.0, 1.0]),
        {"max_kl": 1.0, "max_backtracks": 1, "solver": UNDAMPED},
    ),
    # The step ends at 10, where only the action 5 with its negative advantage is left.
    (
        StepOutcome.NO_IMPROVEMENT,
        lambda: normal_with(**IDENTITY, act=[1.0, 5.0], adv=[1.0, -0.1]),
        {"max_kl": 50.0, "max_backtracks": 1, "solver": SolverSettings(10, 1e-6, 0.0)},
    ),
    # The gradient is that of the identity; the mean ceases to exist at 1/2.
    (
        StepOutcome.NON_FINITE_CANDIDATE,
        lambda: normal_with(mean=lambda t: t + 0 * torch.sqrt(0.5 - t), act=[1.0, 2.0], adv=[-1.0, 1.0]),
        {"max_kl": 2.0, "max_backtracks": 1, "solver": UNDAMPED},
    ),
]


@pytest.mark.parametrize(
    ("outcome", "build", "settings"), FAILURES, ids=[f"{i}-{o.name}" for i, (o, _, _) in enumerate(FAILURES)]
)
def test_every_failure_is_named_and_ends_where_it_started(
    outcome: StepOutcome, build: Callable[[], PolicyProblem], settings: dict[str, Any]
):
    problem = build()
    start, before = problem.start, problem.theta_old.clone()
    step = trpo(problem, start, **settings)
    assert step.outcome is outcome
    assert step.end is step.start is start
    assert torch.equal(problem.theta_old, before)
    assert not step.accepted
    assert (step.step_size, step.fraction, step.improvement, step.expected_improvement) == (0.0, 0.0, 0.0, 0.0)


def test_the_failures_above_and_acceptance_are_all_outcomes_there_are():
    assert {outcome for outcome, _, _ in FAILURES} | {StepOutcome.ACCEPTED} == set(StepOutcome)


@pytest.mark.parametrize(
    ("outcome", "build"),
    [(o, b) for o, b, _ in FAILURES if o in {StepOutcome.CONSTANT_ADVANTAGES, StepOutcome.NON_FINITE_GRADIENT}]
    + [
        (
            StepOutcome.NON_FINITE_CANDIDATE,
            lambda: normal_with(mean=lambda t: t + 0 * torch.sqrt(0.5 - t), act=[1.0, 2.0], adv=[-1.0, 1.0]),
        )
    ],
)
def test_a_natural_gradient_step_fails_alike(outcome: StepOutcome, build: Callable[[], PolicyProblem]):
    problem = build()
    start = problem.start
    step = npg(problem, start, trust_region_size=10.0)
    assert step.outcome is outcome
    assert step.end is step.start is start
    assert (step.step_size, step.fraction, step.improvement) == (0.0, 0.0, 0.0)


def test_a_failing_step_backtracks_through_all_candidates():
    problem = normal_with(mean=lambda t: torch.sinh(50 * t), act=[1.0, 2.0], adv=[-1.0, 1.0])
    step = trpo(problem, max_kl=1.0, max_backtracks=3, backtrack_coeff=0.99, solver=UNDAMPED)
    assert (step.outcome, step.backtracks) == (StepOutcome.KL_ABOVE_BOUND, 2)


def test_backtracking_rescues_a_step_that_is_too_long():
    problem = normal_with(mean=lambda t: torch.sinh(5 * t), act=[1.0, 2.0], adv=[-1.0, 1.0])
    step = trpo(problem, max_kl=1.0, backtrack_coeff=0.5, solver=UNDAMPED)
    assert step.accepted
    # The gradient is 5 / 2 and the Fisher matrix 25, so that x = 1/10, x.F x = 1/4 and the full step sqrt(2) / 5;
    # halved once the mean sinh(sqrt(2) / 2) = 0.767 is within sqrt(2).
    assert (step.fraction, step.backtracks) == (0.5, 1)
    assert step.step_size == pytest.approx(0.5 * math.sqrt(8), rel=1e-12)
    assert step.end.theta.item() == pytest.approx(math.sqrt(2) / 10, rel=1e-12)
    assert step.expected_improvement == pytest.approx(2.5 * math.sqrt(2) / 10, rel=1e-12)
    assert step.end.evaluation.kl == pytest.approx(0.5 * math.sinh(math.sqrt(0.5)) ** 2, rel=1e-9)


@pytest.mark.parametrize("validate", [True, False])
def test_a_covariance_that_stops_being_positive_definite_is_turned_down(validate: bool):
    # During an update torch does not validate, and the factorisation itself fails.
    theta = torch.ones(1, dtype=torch.float64)
    act = torch.tensor([[0.1, 0.0], [0.0, 0.1], [2.0, 2.0]]).double()

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return MultivariateNormal(
            torch.zeros_like(act[rows]),
            covariance_matrix=t * torch.eye(2, dtype=torch.float64).expand(len(act[rows]), 2, 2),
        )

    before = Distribution._validate_args
    Distribution.set_default_validate_args(validate)
    try:
        problem = PolicyProblem(
            distribution,
            theta,
            act=act,
            adv=torch.tensor([1.0, 1.0, -2.0]).double(),
        )
        step = trpo(problem, max_kl=10.0, max_backtracks=1, solver=UNDAMPED)
    finally:
        Distribution.set_default_validate_args(before)
    assert step.outcome is StepOutcome.NON_FINITE_CANDIDATE
    assert step.end is step.start


def test_impossible_actions_stay_impossible_and_disturb_nothing():
    obs = torch.randn(20, 2, dtype=torch.float64, generator=generator(4))
    mask = torch.zeros(20, 3, dtype=torch.bool)
    mask[::2, 1] = True
    theta = torch.zeros(6, dtype=torch.float64)

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return Categorical(logits=(obs[rows] @ t.view(2, 3)).masked_fill(mask[rows], -math.inf))

    act = torch.arange(20) % 2 * 2
    problem = PolicyProblem(
        distribution,
        theta,
        act=act,
        adv=obs[:, 0],
        ent_coef=0.01,
    )
    step = trpo(problem)
    end = distribution(step.end.theta, slice(None)).probs
    assert step.accepted
    assert float(end[mask].max()) == 0.0
    start = distribution(theta, slice(None)).probs
    terms = torch.where(mask, 0.0, start * torch.log(start / end))
    assert step.end.evaluation.kl == pytest.approx(float(terms.sum(-1).mean()), rel=1e-9)


def test_a_policy_that_no_trainable_parameter_moves_has_a_zero_gradient():
    theta, act = torch.zeros(2), torch.tensor([0.5, 1.0, 2.0])
    problem = PolicyProblem(
        lambda t, rows: Normal(torch.zeros(3)[rows], torch.ones(3)[rows]),
        theta,
        act=act,
        adv=torch.tensor([1.0, 2.0, 3.0]),
    )
    assert trpo(problem).outcome is StepOutcome.ZERO_GRADIENT


# --- the contract, for any policy


@settings(max_examples=60, deadline=None)
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
    behaviour, point = case.policy.theta.clone(), case.problem.start
    for _ in range(repeat):
        step = trpo(case.problem, point, max_kl=max_kl, solver=SolverSettings(iterations, damping, 0.0))
        if step.accepted:
            assert float(case.policy.kl(behaviour, step.end.theta)) <= max_kl * (1 + 1e-9) + 1e-13
            assert step.end.evaluation.kl <= max_kl
            assert float(case.objective(step.end.theta)) > float(case.objective(point.theta)) - 1e-12
            assert step.improvement > 0
        else:
            assert step.end is point
        point = step.end
    assert torch.equal(case.policy.theta, behaviour)
    assert torch.equal(case.problem.theta_old, behaviour)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), max_kl=st.floats(1e-5, 0.1), scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e3, 1e20]))
def test_in_float32_the_bound_holds_for_advantages_of_any_scale(seed: int, max_kl: float, scale: float):
    obs = torch.randn(30, 3, generator=generator(seed))
    theta = torch.randn(8, generator=generator(seed + 1)) * 0.3
    act = torch.randn(30, 2, generator=generator(seed + 2))

    def distribution(t: Tensor, rows: slice | Tensor) -> Independent:
        loc = torch.tanh(obs[rows] @ t[:6].view(3, 2))
        return Independent(Normal(loc, torch.exp(t[6:]).expand_as(loc)), 1)

    problem = PolicyProblem(
        distribution,
        theta,
        act=act,
        adv=scale * torch.randn(30, generator=generator(seed + 3)),
    )
    step = trpo(problem, max_kl=max_kl, solver=SolverSettings(10, 0.1, 1e-5))
    assert step.accepted
    (m, s), (m_new, s_new) = (
        (torch.tanh(obs @ t[:6].view(3, 2)).double(), torch.exp(t[6:]).double()) for t in (theta, step.end.theta)
    )
    kl = (torch.log(s_new / s) + (s**2 + (m - m_new) ** 2) / (2 * s_new**2) - 0.5).sum(-1).mean()
    assert 0 < float(kl) <= max_kl * (1 + 1e-6)


def test_the_scale_of_the_advantages_does_not_change_the_step():
    case = DenseProblem(DensePolicy(NORMAL, rows=30))
    step = trpo(case.problem)
    case.problem.adv = case.problem.adv * 1e30
    torch.testing.assert_close(trpo(case.problem).end.theta, step.end.theta, rtol=1e-9, atol=1e-11)
