"""Each outcome of a step: what leads to it, and that the step then ends where it started."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dense import generator, problem_of
from steps import npg, trpo
from torch import Tensor
from torch.distributions import Categorical, Distribution, MultivariateNormal, Normal

from trpo_ts.solver.outcomes import StepOutcome
from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.solver.trust_region import PolicyStep, SolverSettings


def normal_with(
    mean: Callable[[Tensor], Tensor], *, act: list[float], adv: list[float], **settings: Any
) -> tuple[PolicyProblem, Point]:
    """One observation, one parameter that starts at zero, a unit standard deviation."""
    theta = torch.zeros(1, dtype=torch.float64)
    actions, advantages = torch.tensor(act).double(), torch.tensor(adv).double()

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return Normal(mean(t).expand(len(actions))[rows], torch.ones_like(actions[rows]))

    return problem_of(distribution, theta, act=actions, adv=advantages, **settings)


def flat_on_the_first_row() -> tuple[PolicyProblem, Point]:
    obs = torch.tensor([0.0, 1.0, 2.0]).double()
    theta, act = torch.zeros(1, dtype=torch.float64), torch.tensor([1.0, 1.0, -1.0]).double()

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return Normal(obs[rows] * t, torch.ones_like(obs[rows]))

    return problem_of(distribution, theta, act=act, adv=torch.tensor([1.0, 2.0, 3.0]).double(), fisher_subsampling=0.3)


UNDAMPED = SolverSettings(10, 0.0, 0.0)
IDENTITY = {"mean": lambda t: t}
FAILURES: list[tuple[StepOutcome, Callable[[], tuple[PolicyProblem, Point]], dict[str, Any]]] = [
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


def assert_ends_where_it_started(step: PolicyStep, start: Point) -> None:
    assert step.end is step.start
    assert step.start.theta is start.theta
    assert step.start.evaluation is start.evaluation
    assert step.start.forward_pass is None  # the graph of a point is not kept longer than for its step


@pytest.mark.parametrize(
    ("outcome", "build", "settings"), FAILURES, ids=[f"{i}-{o.name}" for i, (o, _, _) in enumerate(FAILURES)]
)
def test_every_failure_is_named_and_ends_where_it_started(
    outcome: StepOutcome, build: Callable[[], tuple[PolicyProblem, Point]], settings: dict[str, Any]
):
    problem, start = build()
    before = problem.theta_old.clone()
    step = trpo(problem, start, **settings)
    assert step.outcome is outcome
    assert_ends_where_it_started(step, start)
    assert torch.equal(problem.theta_old, before)
    assert not step.accepted
    assert (step.step_size, step.fraction, step.improvement, step.expected_improvement) == (0.0, 0.0, 0.0, 0.0)


def test_the_failures_above_and_acceptance_are_all_outcomes_there_are():
    assert {outcome for outcome, _, _ in FAILURES} | {StepOutcome.ACCEPTED} == set(StepOutcome)


def test_every_outcome_has_advice_of_its_own():
    advice = [outcome.advice for outcome in StepOutcome]
    assert all(advice)
    assert len(set(advice)) == len(StepOutcome)


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
def test_a_natural_gradient_step_fails_alike(outcome: StepOutcome, build: Callable[[], tuple[PolicyProblem, Point]]):
    problem, start = build()
    step = npg(problem, start, factor=10.0)
    assert step.outcome is outcome
    assert_ends_where_it_started(step, start)
    assert (step.step_size, step.fraction, step.improvement) == (0.0, 0.0, 0.0)


def test_a_failing_step_backtracks_through_all_candidates():
    problem, start = normal_with(mean=lambda t: torch.sinh(50 * t), act=[1.0, 2.0], adv=[-1.0, 1.0])
    step = trpo(problem, start, max_kl=1.0, max_backtracks=3, backtrack_coeff=0.99, solver=UNDAMPED)
    assert (step.outcome, step.backtracks) == (StepOutcome.KL_ABOVE_BOUND, 2)


def test_backtracking_rescues_a_step_that_is_too_long():
    problem, start = normal_with(mean=lambda t: torch.sinh(5 * t), act=[1.0, 2.0], adv=[-1.0, 1.0])
    step = trpo(problem, start, max_kl=1.0, backtrack_coeff=0.5, solver=UNDAMPED)
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
        problem, start = problem_of(distribution, theta, act=act, adv=torch.tensor([1.0, 1.0, -2.0]).double())
        step = trpo(problem, start, max_kl=10.0, max_backtracks=1, solver=UNDAMPED)
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
    problem, start = problem_of(distribution, theta, act=act, adv=obs[:, 0], ent_coef=0.01)
    step = trpo(problem, start)
    end = distribution(step.end.theta, slice(None)).probs
    assert step.accepted
    assert float(end[mask].max()) == 0.0
    before = distribution(theta, slice(None)).probs
    terms = torch.where(mask, 0.0, before * torch.log(before / end))
    assert step.end.evaluation.kl == pytest.approx(float(terms.sum(-1).mean()), rel=1e-9)


def test_a_policy_that_no_trainable_parameter_moves_has_a_zero_gradient():
    theta, act = torch.zeros(2), torch.tensor([0.5, 1.0, 2.0])
    problem, start = problem_of(
        lambda t, rows: Normal(torch.zeros(3)[rows], torch.ones(3)[rows]),
        theta,
        act=act,
        adv=torch.tensor([1.0, 2.0, 3.0]),
    )
    assert trpo(problem, start).outcome is StepOutcome.ZERO_GRADIENT
