"""Krylov subspaces and preconditioners."""

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

from trpo_ts.solver.conjugate_gradient import UNAIDED_TOLERANCE, SolveStatus, conjugate_gradient


def krylov_solution(matrix: Tensor, b: Tensor, inverse: Tensor, dimension: int) -> Tensor:
    """Return the minimiser of x.C x / 2 - b.x over the span of K b, K C K b, and so on, for the inverse K."""
    vectors = [inverse @ b]
    while len(vectors) < dimension:
        vectors.append(inverse @ (matrix @ (vectors[-1] / vectors[-1].norm())))
    basis, _ = torch.linalg.qr(torch.stack(vectors, dim=1))
    return basis @ torch.linalg.solve(basis.mT @ matrix @ basis, basis.mT @ b)


class DensePreconditioner:
    """Solves with the inverse of one matrix, and approximates the operator by another."""

    def __init__(self, inverse: Tensor, approximation: Tensor) -> None:
        self.inverse, self.approximation = inverse, approximation

    def solve(self, r: Tensor) -> Tensor:
        return self.inverse @ r

    def multiply(self, v: Tensor) -> Tensor:
        return self.approximation @ v


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
    for approximation in (matrix, torch.eye(15, dtype=torch.float64), torch.linalg.inv(inverse)):
        solution = conjugate_gradient(
            product_with(matrix),
            b,
            max_iterations=100,
            tolerance=1e-12,
            preconditioner=DensePreconditioner(inverse, approximation),
        )
        torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-8, atol=1e-13)
        assert solution.status is SolveStatus.CONVERGED


@examples(50)
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


# --- a loose tolerance is meant for an approximation that is close to the operator


@pytest.mark.parametrize(("share", "trusted"), [(1.0, True), (0.5, True), (0.3, False), (0.01, False), (0.0, False)])
def test_an_approximation_that_falls_far_short_of_the_first_product_is_not_enough_for_a_loose_tolerance(
    share: float, trusted: bool
):
    matrix, b = with_eigenvalues(torch.logspace(0, 3, 30)), randn(30)
    preconditioner = DensePreconditioner(torch.eye(30, dtype=torch.float64), share * matrix)
    solution = conjugate_gradient(
        product_with(matrix), b, max_iterations=200, tolerance=0.9, preconditioner=preconditioner
    )
    plain = conjugate_gradient(product_with(matrix), b, max_iterations=200, tolerance=0.9)
    assert solution.status is SolveStatus.CONVERGED
    assert (solution.iterations == plain.iterations) is trusted
    assert (solution.relative_residual <= UNAIDED_TOLERANCE) is not trusted
    if not trusted:
        optimum = math.sqrt(float(b.dot(torch.linalg.solve(matrix, b))))
        assert float(b.dot(solution.x) / solution.x.dot(matrix @ solution.x).sqrt()) >= 0.999 * optimum


@pytest.mark.parametrize("factor", [3.0, 1.0, 0.5])
def test_a_model_that_is_the_operator_up_to_a_factor_is_trusted(factor: float):
    matrix, b = with_eigenvalues(torch.logspace(-1, 2, 30)), randn(30)
    preconditioner = DensePreconditioner(torch.linalg.inv(factor * matrix), factor * matrix)
    solution = conjugate_gradient(
        product_with(matrix), b, max_iterations=60, tolerance=0.9, preconditioner=preconditioner
    )
    assert solution.iterations == 1


def test_a_tighter_tolerance_than_that_stays():
    matrix, b = with_eigenvalues(torch.logspace(0, 2, 10)), randn(10)
    preconditioner = DensePreconditioner(torch.eye(10, dtype=torch.float64), 0.0 * matrix)
    solution = conjugate_gradient(
        product_with(matrix), b, max_iterations=100, tolerance=1e-8, preconditioner=preconditioner
    )
    assert solution.relative_residual <= 1e-8
