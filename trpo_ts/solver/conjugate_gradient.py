r"""Conjugate gradient: the search direction :math:`x` that solves :math:`A x = b`, :math:`A` positive definite."""

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
"""The largest relative residual to stop at without a model of the operator that can be trusted."""


class SolveStatus(Enum):
    """Why the iteration ended."""

    CONVERGED = "the relative residual fell to the tolerance"
    ITERATION_LIMIT = "the iterations were used up"
    NON_POSITIVE_CURVATURE = "p^T A p <= 0 along a search direction"
    NON_FINITE = "a product with the operator was not finite"


class Preconditioner(Protocol):
    """A model of an operator that is cheaper than it."""

    def solve(self, r: Tensor) -> Tensor:
        r"""Return an approximate solution :math:`z` of :math:`A z = r`, with :math:`r^\top z > 0`."""

    def multiply(self, v: Tensor) -> Tensor:
        """Return the model's approximation of :math:`A v`."""


@dataclass(frozen=True)
class Solution:
    r"""The solution of :math:`A x = b` and how it was reached.

    :param x: the solution, shape ``(P,)``; zero when the first direction already failed.
    :param iterations: products with :math:`A` that were spent.
    :param relative_residual: :math:`\|b - A x\| / \|b\|` from the recurrence, in the preconditioner's norm. With a
        preconditioner it is that before the last step, which takes no product.
    :param curvature: :math:`x^\top A x`, which costs no product: :math:`A x = b - r`. With a preconditioner the term
        of the last step, the smallest, is the model's.
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
    r"""Solve :math:`A x = b` from :math:`x_0 = 0` (Nocedal and Wright, Numerical Optimization, algorithm 5.3).

    The residual is relative, so the number of products does not depend on the scale of the rewards. A direction
    of non-positive or non-finite curvature ends the iteration with the best :math:`x` so far. Unlike Steihaug's method
    (algorithm 7.2), which follows that direction to the boundary, the length is left to the step size.

    A loose tolerance is meant for a preconditioner that is close to the operator. Where the first product shows that it
    is not, the tolerance is at most :data:`UNAIDED_TOLERANCE`.

    With a preconditioner, directions are made conjugate by the flexible formula, since the preconditioner may
    itself be a truncated iteration, and a last step is taken without a product: see :func:`_extrapolated`.

    :param operator: :math:`v \mapsto A v`, symmetric and positive definite.
    :param b: the right-hand side, shape ``(P,)``.
    :param max_iterations: the most products to spend, >= 1.
    :param tolerance: stop when :math:`\sqrt{r^\top z} \le` tolerance :math:`\cdot \sqrt{b^\top z_b}`, where
        :math:`z = r` without a preconditioner: then it is :math:`\|r\| \le` tolerance :math:`\cdot \|b\|`.
    :param preconditioner: solves with a model of :math:`A`. One that is not positive and finite on ``b`` is not used.
    """
    norm = stable_norm(b)
    if norm == 0.0:
        return Solution(torch.zeros_like(b), 0, 0.0, 0.0, SolveStatus.CONVERGED)
    # The squares of very small or large entries would leave the range of the dtype, as may the norm itself.
    largest = float(b.abs().max())
    unit = _solve(operator, b / largest / (norm / largest), max_iterations, tolerance, preconditioner)
    return replace(unit, x=unit.x * (norm / largest) * largest, curvature=unit.curvature * norm * norm)


def _solve(
    operator: LinearOperator,
    b: Tensor,
    max_iterations: int,
    tolerance: float,
    preconditioner: Preconditioner | None,
) -> Solution:
    numbers = torch.finfo(b.dtype)
    x, r = torch.zeros_like(b), b.clone()
    z = r.clone() if preconditioner is None else preconditioner.solve(r)
    start = float(r.dot(z))
    if preconditioner is not None and not 0.0 < start < math.inf:  # its moments may have overflowed
        preconditioner, z = None, r.clone()
        start = float(r.dot(z))
    p, a_p, p_a_p, r_dot_z = z.clone(), z, 0.0, start
    least = max(tolerance, numbers.eps) ** 2 * start  # below it there is only rounding
    iterations, status = 0, SolveStatus.ITERATION_LIMIT
    while iterations < max_iterations:
        a_p = operator(p)
        iterations += 1
        curvature = float(p.dot(a_p))
        if preconditioner is not None and iterations == 1 and not _is_trusted(preconditioner, p, curvature):
            least = min(least, UNAIDED_TOLERANCE**2 * start)
        step = float(r.dot(p)) / curvature if curvature > 0.0 else math.inf
        if not math.isfinite(curvature):
            status = SolveStatus.NON_FINITE
            break
        if abs(step) > numbers.max:  # zero or negative curvature, also where rounding left a trace of it
            status = SolveStatus.NON_POSITIVE_CURVATURE
            break
        p_a_p = curvature
        x.add_(p, alpha=step)
        r.sub_(a_p, alpha=step)
        z = r if preconditioner is None else preconditioner.solve(r)
        previous, r_dot_z = r_dot_z, float(r.dot(z))
        if r_dot_z <= least:
            # Below zero is no convergence: the preconditioner is not positive, and must lead no further.
            status = SolveStatus.CONVERGED if r_dot_z >= -least else status
            break
        if iterations < max_iterations:
            p.mul_(r_dot_z / previous if preconditioner is None else -float(z.dot(a_p)) / p_a_p).add_(z)
    residual = math.sqrt(max(r_dot_z, 0.0) / start) if start > 0.0 else math.nan
    curvature = float(x.dot(b - r))  # x^T A x, since A x = b - r
    if preconditioner is not None and status in (SolveStatus.CONVERGED, SolveStatus.ITERATION_LIMIT):
        x, curvature = _extrapolated(x, curvature, b, r, z, _LastDirection(p, a_p, p_a_p), preconditioner)
    return Solution(x, iterations, residual, curvature, status)


def _is_trusted(preconditioner: Preconditioner, p: Tensor, curvature: float) -> bool:
    """Whether the model does not fall far short of the true curvature along a direction.

    It does where it lacks much of the operator: layers that have no Kronecker factors, or units in saturation.
    """
    return float(p.dot(preconditioner.multiply(p))) > _LEAST_SHARE * curvature


_LEAST_SHARE = 1 / 3
"""Of the curvature. On HalfCheetah and Walker2d the model has 0.5 to 1.5 of it; without weight factors 0.01 to 0.1."""


@dataclass(frozen=True)
class _LastDirection:
    r"""The last direction :math:`p` of the iteration, :math:`A p` and :math:`p^\top A p`."""

    p: Tensor
    a_p: Tensor
    p_a_p: float


def _extrapolated(
    x: Tensor,
    curvature: float,
    b: Tensor,
    r: Tensor,
    z: Tensor,
    last: _LastDirection,
    preconditioner: Preconditioner,
) -> tuple[Tensor, float]:
    r"""Take the step that would follow, with its curvature from the model instead of a product.

    The next direction :math:`p = z + \beta p_{last}` costs no product; only :math:`p^\top A p` would. The model
    :math:`\tilde A` gives it up to a factor, and the last direction, whose true curvature is known, gives the factor.
    Close to the optimum along :math:`p` the gain depends on the length to second order only. Since
    :math:`A x = b - r`, the new :math:`x^\top A x` is exact but for that one term.
    """
    p = z - (float(z.dot(last.a_p)) / last.p_a_p) * last.p  # conjugate to the last direction: p^T A p_last = 0
    modelled_last = float(last.p.dot(preconditioner.multiply(last.p)))
    modelled = float(p.dot(preconditioner.multiply(p)))
    if not (modelled_last > 0.0 and modelled > 0.0):  # at convergence to rounding p is zero
        return x, curvature
    p_a_p = modelled * last.p_a_p / modelled_last
    step = float(r.dot(p)) / p_a_p
    along = float(p.dot(b - r))  # p^T A x
    return x + step * p, curvature + 2.0 * step * along + step**2 * p_a_p


def stable_norm(vector: Tensor) -> float:
    """Return the Euclidean norm without overflow or underflow of the squares; not finite where the vector is not."""
    largest = float(vector.abs().max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(torch.linalg.vector_norm(vector / largest))
