"""Conjugate gradient against a dense solver: accuracy, products, tolerance, scale."""

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

from trpo_ts.solver.conjugate_gradient import SolveStatus, conjugate_gradient, stable_norm

# --- positive definite systems against a dense solver


@pytest.mark.parametrize("size", [1, 2, 7, 30])
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3])
def test_solution_equals_the_dense_solution(size: int, condition: float):
    matrix = with_eigenvalues(torch.logspace(0, math.log10(condition), size), seed=size)
    b = randn(size, seed=1)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=20 * size, tolerance=1e-13)
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-9, atol=1e-10)
    assert solution.status is SolveStatus.CONVERGED


@pytest.mark.parametrize("condition", [1e6, 1e10])
def test_ill_conditioned_systems_are_solved_to_the_accuracy_their_condition_allows(condition: float):
    matrix = with_eigenvalues(torch.logspace(0, -math.log10(condition), 12))
    b = randn(12, seed=1)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=2000, tolerance=1e-12)
    exact = torch.linalg.solve(matrix, b)
    error = solution.x - exact
    # Relative to the exact solution in the norm of the operator, and in the Euclidean one.
    assert float(error.dot(matrix @ error) / exact.dot(b)) < (1e-14 * condition) ** 2 + 1e-12
    assert float(error.norm() / exact.norm()) < 1e-14 * condition
    assert solution.curvature == pytest.approx(float(solution.x.dot(matrix @ solution.x)), rel=1e-3)


@pytest.mark.parametrize("distinct", [1, 2, 3, 5])
def test_as_many_products_as_distinct_eigenvalues(distinct: int):
    eigenvalues = torch.arange(20) % distinct + 1.0
    operator = Counted(torch.diag(eigenvalues.double()))
    solution = conjugate_gradient(operator, randn(20), max_iterations=50, tolerance=1e-10)
    assert solution.iterations == operator.products == distinct
    assert solution.status is SolveStatus.CONVERGED


def test_one_iteration_is_the_exact_line_search_along_the_right_hand_side():
    # x = (b.b / b.A b) b = 5 / (1 * 1 + 4 * 3) b
    solution = conjugate_gradient(product_with(torch.diag(double(1.0, 3.0))), double(1.0, 2.0), max_iterations=1)
    torch.testing.assert_close(solution.x, double(5 / 13, 10 / 13))
    assert solution.curvature == pytest.approx(25 / 13, rel=1e-14)
    # r = b - C x = (8, -4) / 13
    assert solution.relative_residual == pytest.approx(math.sqrt(80) / 13 / math.sqrt(5), rel=1e-14)
    assert solution.status is SolveStatus.ITERATION_LIMIT


@pytest.mark.parametrize("iterations", [1, 2, 5, 10])
def test_iterations_are_the_products_spent(iterations: int):
    operator = Counted(with_eigenvalues(torch.logspace(0, 3, 40)))
    solution = conjugate_gradient(operator, randn(40), max_iterations=iterations)
    assert solution.iterations == operator.products == iterations
    assert solution.status is SolveStatus.ITERATION_LIMIT


def test_the_default_is_ten_iterations_without_early_end():
    operator = Counted(with_eigenvalues(torch.linspace(1.0, 1.5, 40)))
    solution = conjugate_gradient(operator, randn(40))
    assert solution.iterations == operator.products == 10
    assert solution.status is SolveStatus.ITERATION_LIMIT


@pytest.mark.parametrize("iterations", [1, 3, 8])
def test_residual_and_curvature_are_those_of_the_returned_solution(iterations: int):
    matrix, b = with_eigenvalues(torch.logspace(0, 2, 15)), 7.0 * randn(15)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=iterations)
    assert solution.relative_residual == pytest.approx(float((b - matrix @ solution.x).norm() / b.norm()), rel=1e-9)
    assert solution.curvature == pytest.approx(float(solution.x.dot(matrix @ solution.x)), rel=1e-10)


@pytest.mark.parametrize("iterations", [10, 14])
def test_the_curvature_stays_true_where_conjugacy_is_lost(iterations: int):
    # There the residual is no longer orthogonal to the solution, and x.b is not x.C x.
    matrix, b = with_eigenvalues(torch.logspace(0, -6, 12)), randn(12)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=iterations)
    true = float(solution.x.dot(matrix @ solution.x))
    assert abs(true - float(solution.x.dot(b))) > 1e-7 * true
    assert solution.curvature == pytest.approx(true, rel=1e-8)


def test_float32_agrees_with_float64_and_keeps_its_dtype():
    matrix, b = with_eigenvalues(torch.logspace(0, 2, 15)), randn(15)
    double_solution = conjugate_gradient(product_with(matrix), b, max_iterations=8)
    solution = conjugate_gradient(product_with(matrix.float()), b.float(), max_iterations=8)
    assert solution.x.dtype is torch.float32
    torch.testing.assert_close(solution.x.double(), double_solution.x, rtol=1e-3, atol=1e-5)
    assert solution.curvature == pytest.approx(double_solution.curvature, rel=1e-4)
    assert solution.relative_residual == pytest.approx(double_solution.relative_residual, rel=1e-2)


def test_the_right_hand_side_is_left_alone():
    b = double(1.0, 2.0)
    conjugate_gradient(lambda v: v, b)
    conjugate_gradient(product_with(torch.diag(double(1.0, 3.0))), b)
    assert torch.equal(b, double(1.0, 2.0))


def test_an_operator_may_return_its_argument():
    solution = conjugate_gradient(lambda v: v, double(1.0, 2.0))
    torch.testing.assert_close(solution.x, double(1.0, 2.0))
    assert solution.curvature == pytest.approx(5.0)


# --- the tolerance


@pytest.mark.parametrize("tolerance", [0.5, 1e-1, 1e-4, 1e-8])
def test_the_tolerance_ends_at_the_first_residual_that_keeps_it(tolerance: float):
    matrix, b = with_eigenvalues(torch.logspace(0, 2, 30)), 1e3 * randn(30)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=200, tolerance=tolerance)
    assert solution.status is SolveStatus.CONVERGED
    assert float((b - matrix @ solution.x).norm()) <= tolerance * float(b.norm()) * (1 + 1e-6)
    if solution.iterations > 1:
        before = conjugate_gradient(product_with(matrix), b, max_iterations=solution.iterations - 1)
        assert before.relative_residual > tolerance


@examples(30)
@given(exponent=st.integers(-100, 100), seed=st.integers(0, 100))
def test_the_scale_of_the_right_hand_side_scales_the_solution_and_nothing_else(exponent: int, seed: int):
    matrix, b = with_eigenvalues(torch.logspace(0, 2, 8), seed).float(), randn(8, seed).float()
    one = conjugate_gradient(product_with(matrix), b, tolerance=1e-2)
    scaled = conjugate_gradient(product_with(matrix), b * 2.0**exponent, tolerance=1e-2)
    # Powers of two only move the exponent: nothing is rounded differently.
    assert (scaled.iterations, scaled.status) == (one.iterations, one.status)
    assert scaled.relative_residual == one.relative_residual
    assert torch.equal(scaled.x, one.x * 2.0**exponent)
    assert scaled.curvature == one.curvature * 4.0**exponent


@pytest.mark.parametrize("scale", [1e20, 1e-20])
def test_squares_of_the_right_hand_side_may_leave_the_range_of_float32(scale: float):
    matrix, b = with_eigenvalues(torch.logspace(0, 1, 8)).float(), randn(8).float()
    one = conjugate_gradient(product_with(matrix), b, tolerance=1e-2)
    scaled = conjugate_gradient(product_with(matrix), b * scale, tolerance=1e-2)
    assert (scaled.iterations, scaled.status) == (one.iterations, one.status)
    torch.testing.assert_close(scaled.x.double() / scale, one.x.double(), rtol=1e-4, atol=1e-6)
    assert scaled.curvature == pytest.approx(one.curvature * scale**2, rel=1e-5)


def test_a_right_hand_side_near_the_end_of_float32_is_solved():
    for largest in (1e-38, 1e37):
        b = torch.full((5,), largest)
        solution = conjugate_gradient(lambda v: 2 * v, b)
        torch.testing.assert_close(solution.x / largest, torch.full((5,), 0.5))


# --- properties


@examples(50)
@given(
    size=st.integers(1, 12),
    condition=st.floats(0.0, 4.0),
    seed=st.integers(0, 10_000),
    iterations=st.integers(1, 12),
)
def test_more_iterations_never_raise_the_quadratic_model(size: int, condition: float, seed: int, iterations: int):
    matrix, b = with_eigenvalues(torch.logspace(0, condition, size), seed), randn(size, seed)

    def energy(x: Tensor) -> float:
        return float(0.5 * x.dot(matrix @ x) - b.dot(x))

    fewer = conjugate_gradient(product_with(matrix), b, max_iterations=iterations)
    more = conjugate_gradient(product_with(matrix), b, max_iterations=iterations + 1)
    exact = torch.linalg.solve(matrix, b)
    slack = 1e-9 * abs(energy(exact))
    assert energy(exact) - slack <= energy(more.x) <= energy(fewer.x) + slack
    assert energy(fewer.x) <= slack
    assert fewer.curvature == pytest.approx(float(fewer.x.dot(matrix @ fewer.x)), rel=1e-9)
    # The error is orthogonal to the search space, so that x.b = x.C x, up to the loss of conjugacy.
    assert fewer.curvature == pytest.approx(float(b.dot(fewer.x)), rel=1e-2)


# --- the norm


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1.0, 1e20, 1e300])
def test_the_norm_neither_overflows_nor_underflows(scale: float):
    assert stable_norm(scale * double(3.0, -4.0)) == pytest.approx(5.0 * scale, rel=1e-14)


def test_the_norm_in_float32_neither_overflows_nor_underflows():
    for scale in (1e-38, 1e-30, 1e30, 1e37):
        assert stable_norm(torch.tensor([3.0, -4.0]) * scale) == pytest.approx(5.0 * scale, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_norm_of_a_vector_that_is_not_finite_is_not_finite(bad: float):
    for vector in (double(1.0, bad), double(bad, bad), double(bad, 0.0), double(bad)):
        assert not math.isfinite(stable_norm(vector))


def test_the_norm_of_zero_is_zero():
    assert stable_norm(double(0.0, -0.0)) == 0.0
