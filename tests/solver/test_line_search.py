"""The backtracking line search on scripted evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from trpo_ts.solver.line_search import Evaluation, LineSearchResult, backtracking_line_search
from trpo_ts.solver.outcomes import StepOutcome

START = Evaluation(objective=1.0, kl=0.0)
GOOD = Evaluation(objective=2.0, kl=0.05)


class Scripted:
    """Returns the given evaluations in turn, the last one for ever, and notes the fractions it was asked for."""

    def __init__(self, *evaluations: Evaluation) -> None:
        self.evaluations, self.fractions = evaluations, []

    def __call__(self, fraction: float) -> Evaluation:
        self.fractions.append(fraction)
        return self.evaluations[min(len(self.fractions), len(self.evaluations)) - 1]


def search(evaluate: Callable[[float], Evaluation], start: Evaluation = START, **settings: float) -> LineSearchResult:
    return backtracking_line_search(
        evaluate, start, **{"max_kl": 0.1, "backtrack_coeff": 0.5, "max_backtracks": 4, **settings}
    )


# --- the fractions that are tried


def test_the_full_step_is_tried_first_and_taken_when_it_is_good():
    evaluate = Scripted(GOOD)
    assert search(evaluate) == LineSearchResult(1.0, 0, GOOD, StepOutcome.ACCEPTED)
    assert evaluate.fractions == [1.0]


def test_the_first_good_candidate_is_taken_and_none_after_it_is_tried():
    far = Evaluation(objective=3.0, kl=0.2)
    evaluate = Scripted(far, far, GOOD)
    assert search(evaluate) == LineSearchResult(0.25, 2, GOOD, StepOutcome.ACCEPTED)
    assert evaluate.fractions == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("coeff", "candidates", "fractions"),
    [
        (0.5, 1, [1.0]),
        (0.5, 4, [1.0, 0.5, 0.25, 0.125]),
        (0.8, 3, [1.0, 0.8, 0.8 * 0.8]),
        (0.1, 3, [1.0, 0.1, 0.1 * 0.1]),
    ],
)
def test_all_candidates_are_tried_when_none_is_good(coeff: float, candidates: int, fractions: list[float]):
    evaluate = Scripted(Evaluation(objective=3.0, kl=0.2))
    result = search(evaluate, backtrack_coeff=coeff, max_backtracks=candidates)
    assert evaluate.fractions == pytest.approx(fractions, rel=1e-15)
    assert result == LineSearchResult(0.0, candidates - 1, START, StepOutcome.KL_ABOVE_BOUND)


def test_the_last_candidate_may_still_be_taken():
    far = Evaluation(objective=3.0, kl=0.2)
    result = search(Scripted(far, far, far, GOOD))
    assert result == LineSearchResult(0.125, 3, GOOD, StepOutcome.ACCEPTED)
    assert search(Scripted(far, far, far, far, GOOD)).outcome is StepOutcome.KL_ABOVE_BOUND


# --- a full step just over the bound


def quadratic(kl_of_full_step: float) -> Callable[[float], Evaluation]:
    return lambda fraction: Evaluation(1.0 + fraction, kl_of_full_step * fraction**2)


@pytest.mark.parametrize("kl", [0.1001, 0.11, 0.4, 1e3])
def test_a_divergence_that_is_quadratic_is_cut_to_just_within_the_bound(kl: float):
    result = search(quadratic(kl), aim_at_bound=True)
    assert (result.outcome, result.backtracks) == (StepOutcome.ACCEPTED, 1)
    assert 0.997 * 0.1 < result.evaluation.kl < 0.1
    assert result.fraction == pytest.approx(math.sqrt(0.1 / kl), rel=2e-3)


def test_it_aims_once_and_shortens_by_the_coefficient_then():
    far = Evaluation(objective=3.0, kl=0.4)
    evaluate = Scripted(far)
    assert search(evaluate, aim_at_bound=True).outcome is StepOutcome.KL_ABOVE_BOUND
    first = 0.999 * math.sqrt(0.1 / 0.4)
    assert evaluate.fractions == pytest.approx([1.0, first, 0.5 * first, 0.25 * first], rel=1e-12)


def test_a_candidate_within_the_bound_that_does_not_improve_is_shortened_by_the_coefficient():
    evaluate = Scripted(Evaluation(0.5, 0.05), Evaluation(3.0, 0.4), GOOD)
    assert search(evaluate, aim_at_bound=True).backtracks == 2
    assert evaluate.fractions == pytest.approx([1.0, 0.5, 0.5 * 0.999 * 0.5], rel=1e-12)


@pytest.mark.parametrize("kl", [math.inf, math.nan, 1e300])
def test_divergences_without_a_use_do_not_break_the_search(kl: float):
    def broken(fraction: float) -> Evaluation:
        return Evaluation(2.0, kl if fraction == 1.0 else 0.05)

    result = search(broken, aim_at_bound=True)
    assert result.outcome is StepOutcome.ACCEPTED
    assert result.evaluation.kl == 0.05


def test_without_aiming_it_is_shortened_by_the_coefficient():
    result = search(quadratic(0.101))
    assert (result.fraction, result.backtracks) == (0.5, 1)
    assert result.evaluation.kl == pytest.approx(0.101 * 0.25)


# --- acceptance at the borders


def test_a_divergence_of_exactly_the_bound_is_accepted():
    assert search(Scripted(Evaluation(2.0, 0.1))).fraction == 1.0


def test_a_divergence_of_one_rounding_above_the_bound_is_rejected():
    assert search(Scripted(Evaluation(2.0, math.nextafter(0.1, 1.0)))).outcome is StepOutcome.KL_ABOVE_BOUND


def test_an_equal_objective_is_no_improvement():
    assert search(Scripted(Evaluation(1.0, 0.05))).outcome is StepOutcome.NO_IMPROVEMENT


def test_one_rounding_above_the_start_is_an_improvement():
    assert search(Scripted(Evaluation(math.nextafter(1.0, 2.0), 0.05))).fraction == 1.0


def test_a_start_within_the_region_is_compared_by_its_objective_alone():
    start = Evaluation(objective=1.0, kl=0.09)
    assert search(Scripted(Evaluation(1.5, 0.1)), start).fraction == 1.0
    assert search(Scripted(Evaluation(0.5, 0.0)), start).outcome is StepOutcome.NO_IMPROVEMENT


# --- reasons


@pytest.mark.parametrize(
    ("candidate", "outcome"),
    [
        (Evaluation(2.0, 0.2), StepOutcome.KL_ABOVE_BOUND),
        (Evaluation(0.5, 0.2), StepOutcome.KL_ABOVE_BOUND),
        (Evaluation(0.5, 0.05), StepOutcome.NO_IMPROVEMENT),
        (Evaluation(math.nan, 0.05), StepOutcome.NON_FINITE_CANDIDATE),
        (Evaluation(2.0, math.nan), StepOutcome.NON_FINITE_CANDIDATE),
        (Evaluation(math.inf, 0.05), StepOutcome.NON_FINITE_CANDIDATE),
        (Evaluation(-math.inf, 0.05), StepOutcome.NON_FINITE_CANDIDATE),
        (Evaluation(2.0, math.inf), StepOutcome.NON_FINITE_CANDIDATE),
        (Evaluation(2.0, -math.inf), StepOutcome.NON_FINITE_CANDIDATE),
    ],
    ids=str,
)
def test_every_rejection_has_its_reason(candidate: Evaluation, outcome: StepOutcome):
    result = search(Scripted(candidate))
    assert result == LineSearchResult(0.0, 3, START, outcome)


def test_the_reason_is_that_against_the_last_candidate():
    kl, flat, broken = Evaluation(2.0, 0.2), Evaluation(0.5, 0.05), Evaluation(math.nan, 0.0)
    assert search(Scripted(broken, kl, kl, flat)).outcome is StepOutcome.NO_IMPROVEMENT
    assert search(Scripted(flat, flat, flat, kl)).outcome is StepOutcome.KL_ABOVE_BOUND
    assert search(Scripted(flat, kl, flat, broken)).outcome is StepOutcome.NON_FINITE_CANDIDATE


def test_a_shorter_finite_candidate_is_taken_after_one_that_is_not_finite():
    assert search(Scripted(Evaluation(math.nan, math.nan), GOOD)) == LineSearchResult(
        0.5, 1, GOOD, StepOutcome.ACCEPTED
    )


def test_nothing_exceeds_a_start_that_is_not_a_number():
    assert search(Scripted(GOOD), Evaluation(math.nan, 0.0)).outcome is StepOutcome.NO_IMPROVEMENT


def test_entropy_and_standard_deviation_do_not_decide():
    rich = Evaluation(2.0, 0.05, entropy=math.nan, action_std=None)
    assert rich.is_finite
    assert search(Scripted(rich)).evaluation is rich


# --- properties


@examples(300)
@given(
    evaluations=st.lists(
        st.builds(Evaluation, objective=st.floats(width=32), kl=st.floats(width=32)), min_size=1, max_size=6
    ),
    start=st.builds(Evaluation, objective=st.floats(width=32), kl=st.floats(0, 1)),
    max_kl=st.floats(1e-6, 10),
    coeff=st.floats(0.01, 0.99),
    candidates=st.integers(1, 6),
)
def test_what_is_accepted_improves_within_the_bound_and_candidates_are_counted(
    evaluations: list[Evaluation], start: Evaluation, max_kl: float, coeff: float, candidates: int
):
    evaluate = Scripted(*evaluations)
    result = search(evaluate, start, max_kl=max_kl, backtrack_coeff=coeff, max_backtracks=candidates)
    assert 1 <= len(evaluate.fractions) <= candidates
    assert result.backtracks == len(evaluate.fractions) - 1
    assert all(a > b for a, b in zip(evaluate.fractions[:-1], evaluate.fractions[1:], strict=True))
    if result.outcome is StepOutcome.ACCEPTED:
        assert result.evaluation.objective > start.objective
        assert result.evaluation.kl <= max_kl
        assert result.evaluation.is_finite
        assert result.fraction == evaluate.fractions[-1]
    else:
        assert len(evaluate.fractions) == candidates
        assert (result.fraction, result.evaluation) == (0.0, start)
