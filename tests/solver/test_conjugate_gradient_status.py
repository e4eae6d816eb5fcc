"""Systems that are singular, indefinite or not finite: what the solve returns and what it reports."""

from __future__ import annotations

import math

import pytest
import torch
from dense import double, with_eigenvalues
from hypothesis import given
from hypothesis import strategies as st
from operators import Counted, product_with, randn
from properties import examples
from torch import Tensor

from trpo_ts.solver.conjugate_gradient import SolveStatus, conjugate_gradient

# --- systems without a unique solution, or without any


def test_a_consistent_singular_system_is_solved_within_the_range():
    vectors, _ = torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    matrix = (vectors * double(1.0, 2.0, 3.0, 4.0)) @ vectors.mT
    b = matrix @ randn(9, seed=1)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=4)
    torch.testing.assert_close(solution.x, torch.linalg.pinv(matrix) @ b, rtol=1e-9, atol=1e-11)
    outside = solution.x - vectors @ (vectors.mT @ solution.x)
    assert float(outside.norm()) < 1e-12


def test_an_inconsistent_singular_system_ends_with_what_was_solved():
    # b = (1, 1) on diag(1, 0): the first step is 2 (1, 1), the second direction (0, 2) has no curvature.
    operator = Counted(torch.diag(double(1.0, 0.0)))
    solution = conjugate_gradient(operator, double(1.0, 1.0))
    torch.testing.assert_close(solution.x, double(2.0, 2.0))
    assert solution.status is SolveStatus.NON_POSITIVE_CURVATURE
    assert solution.iterations == operator.products == 2
    assert solution.curvature == pytest.approx(4.0)
    assert solution.relative_residual == pytest.approx(1.0)


def test_an_indefinite_system_ends_at_the_first_direction_of_negative_curvature():
    # b = (2, 1) on diag(1, -1): the first step is 5/3 b, the second direction (20, 40) / 9 curves down.
    solution = conjugate_gradient(product_with(torch.diag(double(1.0, -1.0))), double(2.0, 1.0))
    torch.testing.assert_close(solution.x, double(10 / 3, 5 / 3))
    assert solution.status is SolveStatus.NON_POSITIVE_CURVATURE
    assert solution.iterations == 2
    assert solution.curvature == pytest.approx((100 - 25) / 9)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_an_operator_without_positive_curvature_gives_zero_after_one_product(scale: float):
    operator = Counted(scale * torch.eye(3, dtype=torch.float64))
    solution = conjugate_gradient(operator, double(1.0, 2.0, 3.0))
    assert torch.equal(solution.x, double(0.0, 0.0, 0.0))
    assert solution.status is SolveStatus.NON_POSITIVE_CURVATURE
    assert (solution.iterations, operator.products) == (1, 1)
    assert (solution.curvature, solution.relative_residual) == (0.0, 1.0)


def test_a_zero_right_hand_side_costs_nothing():
    operator = Counted(torch.eye(3, dtype=torch.float64))
    solution = conjugate_gradient(operator, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(solution.x, double(0.0, 0.0, 0.0))
    assert (solution.iterations, operator.products) == (0, 0)
    assert (solution.curvature, solution.relative_residual) == (0.0, 0.0)
    assert solution.status is SolveStatus.CONVERGED


# --- numbers that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("entry", [0, 2])
def test_a_product_that_is_not_finite_gives_zero_and_says_so(bad: float, entry: int):
    def operator(v: Tensor) -> Tensor:
        product = 2 * v
        product[entry] = bad
        return product

    solution = conjugate_gradient(operator, double(1.0, 2.0, 0.0))
    assert torch.equal(solution.x, double(0.0, 0.0, 0.0))
    assert solution.status is SolveStatus.NON_FINITE
    assert solution.iterations == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_later_product_that_is_not_finite_keeps_the_solution_so_far(bad: float):
    matrix = torch.diag(double(1.0, 3.0, 9.0))
    b = double(1.0, 2.0, 3.0)
    healthy = conjugate_gradient(product_with(matrix), b, max_iterations=1)
    operator = Counted(matrix)
    solution = conjugate_gradient(lambda v: operator(v) if operator.products < 1 else v * bad, b)
    assert torch.equal(solution.x, healthy.x)
    assert solution.curvature == healthy.curvature
    assert solution.status is SolveStatus.NON_FINITE
    assert solution.iterations == 2


@pytest.mark.parametrize("curvature", [1e-36, 1e-42])
def test_a_nearly_flat_operator_in_float32_raises_nothing(curvature: float):
    # A saturated policy without damping: one over the curvature does not fit into float32.
    solution = conjugate_gradient(lambda v: curvature * v, torch.ones(3), max_iterations=1)
    assert not bool(solution.x.isnan().any())


@pytest.mark.parametrize(
    ("largest", "dtype"), [(1e160, torch.float64), (3e38, torch.float32)], ids=["float64", "float32"]
)
def test_a_huge_right_hand_side_is_solved(largest: float, dtype: torch.dtype):
    # The square of its norm in float64, or the norm itself in float32, is out of range.
    b = torch.full((300,), largest, dtype=dtype)
    torch.testing.assert_close(conjugate_gradient(lambda v: 2 * v, b).x, 0.5 * b)


@pytest.mark.parametrize("eigenvalues", [(1e-3,) * 3, (1e-3, 2e-3, 1e-2)], ids=str)
def test_a_positive_definite_operator_is_not_said_to_curve_down(eigenvalues: tuple[float, ...]):
    # Past convergence the squares of the residual leave the range of float32.
    diagonal = torch.tensor(eigenvalues)
    solution = conjugate_gradient(lambda v: diagonal * v, torch.tensor([1.0, 2.0, 3.0]), max_iterations=100)
    torch.testing.assert_close(solution.x, torch.tensor([1.0, 2.0, 3.0]) / diagonal, rtol=1e-5, atol=0)
    assert solution.status in (SolveStatus.CONVERGED, SolveStatus.ITERATION_LIMIT)


@examples(60)
@given(
    eigenvalues=st.lists(st.sampled_from([-1.0, -1e-3, 1e-3, 0.5, 1.0, 1e3]), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    iterations=st.integers(1, 20),
)
def test_any_regular_symmetric_operator_gives_a_finite_ascent_direction_or_zero(
    eigenvalues: list[float], seed: int, iterations: int
):
    operator = Counted(with_eigenvalues(eigenvalues, seed))
    b = randn(len(eigenvalues), seed)
    solution = conjugate_gradient(operator, b, max_iterations=iterations)
    assert bool(solution.x.isfinite().all())
    assert 1 <= solution.iterations == operator.products <= iterations
    if bool(solution.x.any()):
        assert float(solution.x.dot(b)) > 0.0
        assert solution.curvature > 0.0
    else:
        assert solution.status is SolveStatus.NON_POSITIVE_CURVATURE
