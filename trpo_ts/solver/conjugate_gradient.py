r"""Conjugate gradient: the search direction :math:`x` that solves :math:`C x = b`, :math:`C` positive definite.

For the policy :math:`C = F + cI` and :math:`b = g`. The letters inside the iteration are the usual ones: the residual
:math:`r = b - C x`, and the direction :math:`p` along which the next step goes. A preconditioner is an approximation
:math:`\tilde C`, and :math:`\tilde r = \tilde C^{-1} r` is the preconditioned residual; without one
:math:`\tilde r = r`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from trpo_ts.solver.linear_operators import LinearOperator

__all__ = ["UNAIDED_TOLERANCE", "Solution", "SolveStatus", "conjugate_gradient", "stable_norm"]


UNAIDED_TOLERANCE = 0.01
"""The largest relative residual to stop at without an approximation of the operator that can be trusted."""


class SolveStatus(Enum):
    """Why the iteration ended."""

    CONVERGED = "the relative residual fell to the tolerance"
    ITERATION_LIMIT = "the iterations were used up"
    NON_POSITIVE_CURVATURE = "p^T C p <= 0 along a direction p"
    NON_FINITE = "a product with the operator was not finite"


class Preconditioner(Protocol):
    r"""An approximation :math:`\tilde C` of an operator that is cheaper than it."""

    def solve(self, r: Tensor) -> Tensor:
        r"""Return :math:`\tilde r`, approximately :math:`\tilde C^{-1} r`, with :math:`r^\top \tilde r > 0`."""

    def multiply(self, v: Tensor) -> Tensor:
        r"""Return :math:`\tilde C v`."""


@dataclass(frozen=True)
class Solution:
    r"""The solution of :math:`C x = b` and how it was reached.

    :param x: the solution, shape ``(P,)``; zero when the first direction already failed.
    :param iterations: products with :math:`C` that were spent.
    :param relative_residual: :math:`\|b - C x\| / \|b\|` from the recurrence, in the preconditioner's norm. With a
        preconditioner it is that before the last step, which takes no product.
    :param curvature: :math:`x^\top C x`, which costs no product: :math:`C x = b - r`. With a preconditioner the term
        of the last step, the smallest, is the approximation's.
    :param status: why the iteration ended.
    """

    x: Tensor
    iterations: int
    relative_residual: float
    curvature: float
    status: SolveStatus


def conjugate_gradient(
    operator: LinearOperator,
    b: Tensor,
    *,
    max_iterations: int = 10,
    tolerance: float = 0.0,
    preconditioner: Preconditioner | None = None,
) -> Solution:
    r"""Solve :math:`C x = b` from :math:`x_0 = 0` (Nocedal and Wright, Numerical Optimization, algorithm 5.3).

    The residual is relative, so the number of products does not depend on the scale of the rewards. A direction
    of non-positive or non-finite curvature ends the iteration with the best :math:`x` so far. Unlike Steihaug's method
    (algorithm 7.2), which follows that direction to the boundary, the length is left to the step size.

    A loose tolerance is meant for a preconditioner that is close to the operator. Where the first product shows that it
    is not, the tolerance is at most :data:`UNAIDED_TOLERANCE`.

    With a preconditioner, directions are made conjugate by the flexible formula, since the preconditioner may
    itself be a truncated iteration, and a last step is taken without a product: see :func:`_extrapolated`.

    :param operator: :math:`v \mapsto C v`, symmetric and positive definite.
    :param b: the right-hand side, shape ``(P,)``.
    :param max_iterations: the most products to spend, >= 1.
    :param tolerance: stop when :math:`\sqrt{r^\top \tilde r} \le` tolerance :math:`\cdot \sqrt{b^\top \tilde b}`.
        Without a preconditioner it is :math:`\|r\| \le` tolerance :math:`\cdot \|b\|`.
    :param preconditioner: solves with :math:`\tilde C`. One that is not positive and finite on ``b`` is not used.
    """
    norm = stable_norm(b)
    if norm == 0.0:
        return Solution(torch.zeros_like(b), 0, 0.0, 0.0, SolveStatus.CONVERGED)
    # The squares of very small or large entries would leave the range of the dtype, as may the norm itself.
    largest = float(b.abs().max())
    scaled = _solve(operator, b / largest / (norm / largest), max_iterations, tolerance, preconditioner)
    return replace(scaled, x=scaled.x * (norm / largest) * largest, curvature=scaled.curvature * norm * norm)


def _solve(
    operator: LinearOperator,
    b: Tensor,
    max_iterations: int,
    tolerance: float,
    preconditioner: Preconditioner | None,
) -> Solution:
    numbers = torch.finfo(b.dtype)
    x, residual = torch.zeros_like(b), b.clone()
    preconditioner, preconditioned = _usable(preconditioner, b)  # r~
    squared_norm_of_b = float(b.dot(preconditioned))  # b^T b~
    conjugate_direction, product, direction_curvature = preconditioned.clone(), preconditioned, 0.0  # p, C p, p^T C p
    squared_norm = squared_norm_of_b  # r^T r~
    converged_below = max(tolerance, numbers.eps) ** 2 * squared_norm_of_b  # with eps: below it there is only rounding
    iterations, status = 0, SolveStatus.ITERATION_LIMIT
    while iterations < max_iterations:
        product = operator(conjugate_direction)
        iterations += 1
        direction_curvature = float(conjugate_direction.dot(product))
        if iterations == 1 and not _is_trusted(preconditioner, conjugate_direction, direction_curvature):
            converged_below = min(converged_below, UNAIDED_TOLERANCE**2 * squared_norm_of_b)
        if not math.isfinite(direction_curvature):
            status = SolveStatus.NON_FINITE
            break
        r_p = float(residual.dot(conjugate_direction))
        length = r_p / direction_curvature if direction_curvature > 0.0 else math.inf
        if abs(length) > numbers.max:  # zero or negative curvature, also a positive rest that rounding left
            status = SolveStatus.NON_POSITIVE_CURVATURE
            break
        x.add_(conjugate_direction, alpha=length)
        residual.sub_(product, alpha=length)
        preconditioned = residual if preconditioner is None else preconditioner.solve(residual)
        previous, squared_norm = squared_norm, float(residual.dot(preconditioned))
        if squared_norm <= converged_below:
            # Below zero is no convergence: the preconditioner is not positive, and must lead no further.
            status = SolveStatus.CONVERGED if squared_norm >= -converged_below else status
            break
        if iterations < max_iterations:
            flexible = preconditioner is not None
            keep = -float(preconditioned.dot(product)) / direction_curvature if flexible else squared_norm / previous
            conjugate_direction.mul_(keep).add_(preconditioned)
    relative_residual = math.sqrt(max(squared_norm, 0.0) / squared_norm_of_b) if squared_norm_of_b > 0.0 else math.nan
    solution_curvature = float(x.dot(b - residual))  # x^T C x, since C x = b - r
    if preconditioner is not None and status in (SolveStatus.CONVERGED, SolveStatus.ITERATION_LIMIT):
        last = _LastDirection(conjugate_direction, product, direction_curvature)
        x, solution_curvature = _extrapolated(x, solution_curvature, b, residual, preconditioned, last, preconditioner)
    return Solution(x, iterations, relative_residual, solution_curvature, status)


def _usable(preconditioner: Preconditioner | None, b: Tensor) -> tuple[Preconditioner | None, Tensor]:
    """Return the preconditioner and what it makes of ``b``; None and ``b`` where that is not positive and finite."""
    if preconditioner is not None:
        preconditioned = preconditioner.solve(b)
        if 0.0 < float(b.dot(preconditioned)) < math.inf:  # else its factors may have overflowed
            return preconditioner, preconditioned
    return None, b.clone()


def _is_trusted(preconditioner: Preconditioner | None, conjugate_direction: Tensor, curvature: float) -> bool:
    """Whether no approximation falls far short of the true curvature along a direction.

    It does where it lacks much of the operator: layers that have no Kronecker factors, or units in saturation.
    """
    if preconditioner is None:
        return True
    return float(conjugate_direction.dot(preconditioner.multiply(conjugate_direction))) > _LEAST_SHARE * curvature


_LEAST_SHARE = 1 / 3
"""Of the curvature. On HalfCheetah and Walker2d K-FAC has 0.5 to 1.5 of it; without weight factors 0.01 to 0.1."""


@dataclass(frozen=True)
class _LastDirection:
    r"""The last direction :math:`p_{last}`, the product :math:`C p_{last}`, and :math:`p_{last}^\top C p_{last}`."""

    conjugate_direction: Tensor
    product: Tensor
    curvature: float


def _extrapolated(
    x: Tensor,
    solution_curvature: float,
    b: Tensor,
    residual: Tensor,
    preconditioned: Tensor,
    last: _LastDirection,
    preconditioner: Preconditioner,
) -> tuple[Tensor, float]:
    r"""Take the step that would follow, with its curvature from the approximation instead of a product.

    The next direction :math:`p = \tilde r - (\tilde r^\top C p_{last} / p_{last}^\top C p_{last})\, p_{last}` costs no
    product; only :math:`p^\top C p` would. The approximation :math:`\tilde C` gives it up to a factor, and the last
    direction, whose true curvature is known, gives the factor. Close to the optimum along :math:`p` the gain depends on
    the length to second order only. Since :math:`C x = b - r`, the new :math:`x^\top C x` is exact but for that one
    term.
    """
    # Conjugate to the last direction: p^T C p_last = 0.
    conjugate_direction = (
        preconditioned - (float(preconditioned.dot(last.product)) / last.curvature) * last.conjugate_direction
    )
    approximate_last = float(last.conjugate_direction.dot(preconditioner.multiply(last.conjugate_direction)))
    approximate = float(conjugate_direction.dot(preconditioner.multiply(conjugate_direction)))
    if not (approximate_last > 0.0 and approximate > 0.0):  # at convergence to rounding the direction is zero
        return x, solution_curvature
    curvature = approximate * last.curvature / approximate_last  # p^T C p
    length = float(residual.dot(conjugate_direction)) / curvature
    mixed = float(conjugate_direction.dot(b - residual))  # p^T C x
    return x + length * conjugate_direction, solution_curvature + 2.0 * length * mixed + length**2 * curvature


def stable_norm(vector: Tensor) -> float:
    """Return the Euclidean norm without overflow or underflow of the squares; not finite where the vector is not."""
    largest = float(vector.abs().max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(torch.linalg.vector_norm(vector / largest))
