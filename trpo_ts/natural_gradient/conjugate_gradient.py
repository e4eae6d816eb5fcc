r"""Conjugate gradient for :math:`A x = b` with a symmetric positive definite operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from trpo_ts.natural_gradient.fisher import LinearOperator

__all__ = ["Solution", "SolveOutcome", "conjugate_gradient", "stable_norm"]


class SolveOutcome(Enum):
    """Why the iteration ended; each value says what a user can do about it."""

    CONVERGED = "the relative residual fell to the tolerance"
    ITERATION_LIMIT = "the iterations were used up; raise cg_iters, or cg_damping, for a smaller residual"
    NON_POSITIVE_CURVATURE = "p^T A p <= 0 along a search direction; raise cg_damping"
    NON_FINITE = "a product with the operator was not finite; look for exploding network outputs"


@dataclass(frozen=True)
class Solution:
    r"""The solution of :math:`A x = b` and how it was reached.

    :param x: the solution, shape ``(P,)``; zero when the first direction already failed.
    :param iterations: products with :math:`A` that were spent.
    :param relative_residual: :math:`\|b - A x\| / \|b\|`, from the recurrence.
    :param curvature: :math:`x^\top A x`, which costs no product: :math:`A x = b - r`.
    :param outcome: why the iteration ended.
    """

    x: Tensor
    iterations: int
    relative_residual: float
    curvature: float
    outcome: SolveOutcome


def conjugate_gradient(
    operator: LinearOperator, b: Tensor, *, max_iterations: int = 10, tolerance: float = 0.0
) -> Solution:
    r"""Solve :math:`A x = b` from :math:`x_0 = 0` (Nocedal and Wright, Numerical Optimization, algorithm 5.2).

    The residual is relative, so the number of products does not depend on the scale of the rewards. A direction
    of non-positive or non-finite curvature ends the iteration with the best :math:`x` so far: in exact
    arithmetic it is the point where a trust-region method stops too (algorithm 7.2).

    :param operator: :math:`v \mapsto A v`, symmetric and positive definite.
    :param b: the right-hand side, shape ``(P,)``.
    :param max_iterations: the most products to spend, >= 1.
    :param tolerance: stop when :math:`\|r\| \le` tolerance :math:`\cdot \|b\|`.
    """
    norm_b = stable_norm(b)
    if norm_b == 0.0:
        return Solution(torch.zeros_like(b), 0, 0.0, 0.0, SolveOutcome.CONVERGED)
    unit_b = b / norm_b  # squares of very small or large entries would leave the range of float32
    x, r, p = torch.zeros_like(b), unit_b.clone(), unit_b.clone()
    r_dot_r = float(r.dot(r))
    outcome, iterations = SolveOutcome.ITERATION_LIMIT, 0
    while iterations < max_iterations:
        a_p = operator(p)
        iterations += 1
        p_a_p = float(p.dot(a_p))
        if not math.isfinite(p_a_p):
            outcome = SolveOutcome.NON_FINITE
            break
        if p_a_p <= 0.0:
            outcome = SolveOutcome.NON_POSITIVE_CURVATURE
            break
        step = r_dot_r / p_a_p
        x.add_(p, alpha=step)
        r.sub_(a_p, alpha=step)
        previous, r_dot_r = r_dot_r, float(r.dot(r))
        if r_dot_r <= tolerance**2:
            outcome = SolveOutcome.CONVERGED
            break
        p.mul_(r_dot_r / previous).add_(r)
    curvature = float(x.dot(unit_b - r)) * norm_b**2
    return Solution(x * norm_b, iterations, math.sqrt(r_dot_r), curvature, outcome)


def stable_norm(vector: Tensor) -> float:
    """Return the Euclidean norm without overflow or underflow of the squares; not finite where the vector is not."""
    largest = float(vector.abs().max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(torch.linalg.vector_norm(vector / largest))
