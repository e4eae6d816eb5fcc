from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from dense import with_eigenvalues
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trpo_ts.solver.conjugate_gradient import SolveStatus, conjugate_gradient, stable_norm


class Counted:
    """A matrix as an operator that counts its products."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.products = matrix, 0

    def __call__(self, v: Tensor) -> Tensor:
        self.products += 1
        return self.matrix @ v


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def randn(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def product_with(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: matrix @ v


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
    # r = b - A x = (8, -4) / 13
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
    # There the residual is no longer orthogonal to the solution, and x.b is not x.A x.
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


@settings(max_examples=30, deadline=None)
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


# --- Krylov subspaces and preconditioners


def krylov_solution(matrix: Tensor, b: Tensor, inverse: Tensor, dimension: int) -> Tensor:
    """Return the minimiser of x.A x / 2 - b.x over the span of M^-1 b, M^-1 A M^-1 b, and so on."""
    vectors = [inverse @ b]
    while len(vectors) < dimension:
        vectors.append(inverse @ (matrix @ (vectors[-1] / vectors[-1].norm())))
    basis, _ = torch.linalg.qr(torch.stack(vectors, dim=1))
    return basis @ torch.linalg.solve(basis.mT @ matrix @ basis, basis.mT @ b)


class DensePreconditioner:
    """Solves with the inverse of one matrix, and models the operator by another."""

    def __init__(self, inverse: Tensor, model: Tensor) -> None:
        self.inverse, self.model = inverse, model

    def solve(self, r: Tensor) -> Tensor:
        return self.inverse @ r

    def multiply(self, v: Tensor) -> Tensor:
        return self.model @ v


def preconditioned_system(size: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Return an operator, a matrix somewhat like its inverse, and a right-hand side."""
    matrix = with_eigenvalues(torch.logspace(0, 3, size))
    like = matrix + with_eigenvalues(torch.linspace(0.1, 0.8, size), seed=1) * matrix.diagonal().sqrt()
    return matrix, torch.linalg.inv((like + like.mT) / 2), 1e-3 * randn(size)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_each_iteration_is_the_best_in_the_krylov_subspace(iterations: int):
    matrix, b = with_eigenvalues(torch.logspace(0, 2, 15)), randn(15)
    solution = conjugate_gradient(product_with(matrix), b, max_iterations=iterations)
    expected = krylov_solution(matrix, b, torch.eye(15, dtype=torch.float64), iterations)
    torch.testing.assert_close(solution.x, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("factor", [1.0, 0.01, 100.0])
@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_a_true_model_up_to_a_factor_gives_one_more_iteration_without_its_product(iterations: int, factor: float):
    matrix, inverse, b = preconditioned_system()
    operator = Counted(matrix)
    solution = conjugate_gradient(
        operator, b, max_iterations=iterations, preconditioner=DensePreconditioner(inverse, factor * matrix)
    )
    expected = krylov_solution(matrix, b, inverse, iterations + 1)
    torch.testing.assert_close(solution.x, expected, rtol=1e-7, atol=1e-12)
    assert solution.curvature == pytest.approx(float(expected.dot(matrix @ expected)), rel=1e-8)
    assert solution.iterations == operator.products == iterations


def test_a_preconditioner_that_is_the_inverse_needs_one_product():
    matrix, _, b = preconditioned_system()
    operator = Counted(matrix)
    solution = conjugate_gradient(
        operator, b, tolerance=1e-8, preconditioner=DensePreconditioner(torch.linalg.inv(matrix), matrix)
    )
    exact = torch.linalg.solve(matrix, b)
    torch.testing.assert_close(solution.x, exact, rtol=1e-9, atol=1e-14)
    assert solution.curvature == pytest.approx(float(exact.dot(b)), rel=1e-9)
    assert operator.products == solution.iterations == 1
    assert solution.status is SolveStatus.CONVERGED


def test_any_positive_definite_preconditioner_reaches_the_solution():
    matrix, inverse, b = preconditioned_system()
    for model in (matrix, torch.eye(15, dtype=torch.float64), torch.linalg.inv(inverse)):
        solution = conjugate_gradient(
            product_with(matrix),
            b,
            max_iterations=100,
            tolerance=1e-12,
            preconditioner=DensePreconditioner(inverse, model),
        )
        torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-8, atol=1e-13)
        assert solution.status is SolveStatus.CONVERGED


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 8), seed=st.integers(0, 1000), iterations=st.integers(1, 6), exponent=st.integers(-15, 15))
def test_a_preconditioned_direction_ascends_at_any_scale(size: int, seed: int, iterations: int, exponent: int):
    matrix = with_eigenvalues(torch.logspace(0, 2, size), seed)
    inverse = with_eigenvalues(torch.logspace(0, -1, size), seed + 1)
    b = randn(size, seed) * 10.0**exponent
    solution = conjugate_gradient(
        product_with(matrix),
        b,
        max_iterations=iterations,
        preconditioner=DensePreconditioner(inverse, torch.linalg.inv(inverse)),
    )
    assert bool(solution.x.isfinite().all())
    assert float(solution.x.dot(b)) > 0.0
    assert solution.curvature > 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_a_preconditioner_that_is_not_positive_and_finite_is_not_used(bad: float):
    eye = torch.eye(3, dtype=torch.float64)
    matrix = torch.diag(double(1.0, 2.0, 4.0))
    b = double(1.0, 2.0, 3.0)
    solution = conjugate_gradient(product_with(matrix), b, preconditioner=DensePreconditioner(bad * eye, eye))
    plain = conjugate_gradient(product_with(matrix), b)
    assert torch.equal(solution.x, plain.x)
    assert solution.status is plain.status


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


# --- properties


@settings(max_examples=50, deadline=None)
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
    # The error is orthogonal to the search space, so that x.b = x.A x, up to the loss of conjugacy.
    assert fewer.curvature == pytest.approx(float(b.dot(fewer.x)), rel=1e-2)


@settings(max_examples=60, deadline=None)
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
