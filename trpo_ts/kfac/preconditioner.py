r"""A product and a solve with K-FAC's model of a matrix, :math:`\tilde F_{lm} = A_{lm} \otimes G_{lm}`.

On the matrices :math:`V_l = [W_l | b_l]` of the layers the model acts as

.. math:: (\tilde F V)_l = \sum_m G_{lm} V_m A_{ml},

which takes no data, only small matrices. So :math:`(\tilde F + cI)^{-1}` is applied by a few inner iterations of
conjugate gradient, which in turn are preconditioned by the inverses of the diagonal blocks. Martens and Grosse 2015
(arXiv:1503.05671) keep the diagonal blocks alone, or a tridiagonal of the inverse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from trpo_ts.kfac.factors import FactorGroup, KroneckerFactors

__all__ = ["KroneckerPreconditioner"]

_LEAST_SHIFT = 1e-3
"""The least shift of a factor before it is inverted, relative to its mean diagonal: without damping the inverse
would blow up the rounding in directions that the samples do not span.
"""


class KroneckerPreconditioner:
    r"""Approximate solutions of :math:`(F + cI) z = r`, and products with the model that they rest on.

    :param factors: the model's factors.
    :param slices: the slice of the parameter vector that each parameter takes, by name.
    :param damping: :math:`c`.
    :param inner_iterations: iterations of conjugate gradient on the model, >= 1; one takes the diagonal blocks alone.
    """

    def __init__(
        self, factors: KroneckerFactors, slices: Mapping[str, slice], *, damping: float, inner_iterations: int
    ) -> None:
        self._inner_iterations = inner_iterations
        self._blocks = [_Block(group, damping) for group in factors.groups]
        tensors = [group.inputs for group in factors.groups] + list(factors.diagonal.values())
        self._order, self._back = _orders(factors, slices, tensors[0].device)
        self._diagonal = torch.cat(
            [tensors[0].new_empty(0)] + [_shifted(d, damping) for d in factors.diagonal.values()]
        )
        # The vectors of the inner iteration are allocated and cut once: doing so in each product took most of the time.
        self._residual, self._z, self._p, self._a_p = (self._vector() for _ in range(4))

    def multiply(self, v: Tensor) -> Tensor:
        r"""Return :math:`(\tilde F + cI) v`, shape ``(P,)``."""
        torch.index_select(v, 0, self._order, out=self._p.flat)
        self._multiply()
        return self._a_p.flat[self._back]

    def solve(self, r: Tensor) -> Tensor:
        r"""Return an approximate :math:`(\tilde F + cI)^{-1} r`, shape ``(P,)``."""
        # Conjugate gradient from x = 0, with the diagonal blocks as its preconditioner. Nothing is read from the
        # device: a step past convergence divides by `tiny` and adds a zero.
        residual, z, p, a_p = self._residual.flat, self._z.flat, self._p.flat, self._a_p.flat
        torch.index_select(r, 0, self._order, out=residual)
        self._solve_blocks()
        if self._inner_iterations == 1:  # a scale would make no difference
            return z[self._back]
        x = torch.zeros_like(residual)
        p.copy_(z)
        r_dot_z = residual.dot(z)
        for i in range(self._inner_iterations):
            if i > 0:
                self._solve_blocks()
                previous, r_dot_z = r_dot_z, residual.dot(z)
                torch.addcmul(z, p, r_dot_z / previous, out=p)
            self._multiply()
            step = r_dot_z / p.dot(a_p).clamp_min(torch.finfo(p.dtype).tiny)
            x.addcmul_(p, step)
            residual.addcmul_(a_p, step, value=-1.0)
        return x[self._back]

    def _multiply(self) -> None:
        """Set A p of the inner iteration from its p."""
        for block, matrices, products in zip(self._blocks, self._p.matrices, self._a_p.matrices, strict=True):
            block.multiply(matrices, products)
        torch.mul(self._diagonal, self._p.rest, out=self._a_p.rest)

    def _solve_blocks(self) -> None:
        """Set z of the inner iteration from its residual."""
        for block, matrices, solutions in zip(self._blocks, self._residual.matrices, self._z.matrices, strict=True):
            block.solve(matrices, solutions)
        torch.div(self._residual.rest, self._diagonal, out=self._z.rest)

    def _vector(self) -> _Vector:
        return _Vector([block.shapes for block in self._blocks], self._diagonal)


class _Vector:
    """A vector in the model's order: the layers' matrices ``[W | b]`` in turn, then the other parameters.

    :param shapes: for each block, the matrices' shapes.
    :param rest: what the other parameters look like, shape ``(n,)``.
    """

    def __init__(self, shapes: Sequence[Sequence[tuple[int, int]]], rest: Tensor) -> None:
        sizes = [height * width for block in shapes for height, width in block]
        self.flat = rest.new_empty(sum(sizes) + len(rest))
        *parts, self.rest = self.flat.split([*sizes, len(rest)])
        remaining = iter(parts)
        self.matrices = [[next(remaining).view(shape) for shape in block] for block in shapes]


class _Block:
    """The damped model of one group of layers, on their matrices ``[W | b]``."""

    def __init__(self, group: FactorGroup, damping: float) -> None:
        self.shapes, self._damping = group.shapes, damping
        heights, widths = ([shape[i] for shape in group.shapes] for i in (0, 1))
        self._columns = group.inputs.split(widths)
        self._rows = group.derivatives.split(heights)
        # Views of one buffer: by rows it holds V_m A_m of each layer m, by columns what is multiplied with G_l.
        product = group.inputs.new_empty(sum(heights), sum(widths))
        self._products_by_rows, self._products_by_columns = product.split(heights), product.split(widths, dim=1)
        # Of the rows of layer i in a factor, the i-th columns are its diagonal block.
        self._inverses = [
            _damped_inverses(row.split(heights, dim=1)[i], column.split(widths, dim=1)[i], damping)
            for i, (row, column) in enumerate(zip(self._rows, self._columns, strict=True))
        ]
        self._halves = [group.inputs.new_empty(shape) for shape in group.shapes]

    def multiply(self, matrices: Sequence[Tensor], products: Sequence[Tensor]) -> None:
        """Write sum_m G_lm V_m A_ml + c V_l of each layer l into ``products``."""
        # First V_m A_m: for each layer m, its rows (outputs of m) by the columns of all layers' inputs.
        for matrix, columns, product in zip(matrices, self._columns, self._products_by_rows, strict=True):
            torch.mm(matrix, columns, out=product)
        # Then for each layer l one product sums over m: G_l, (outputs of l, all outputs), by the columns of its inputs.
        for matrix, rows, part, product in zip(matrices, self._rows, self._products_by_columns, products, strict=True):
            torch.addmm(matrix, rows, part, beta=self._damping, out=product)

    def solve(self, matrices: Sequence[Tensor], solutions: Sequence[Tensor]) -> None:
        """Write the product with the inverse of the diagonal blocks, G_ll^-1 V_l A_ll^-1, into ``solutions``."""
        for matrix, (left, right), half, solution in zip(
            matrices, self._inverses, self._halves, solutions, strict=True
        ):
            torch.mm(left, matrix, out=half)
            torch.mm(half, right, out=solution)


def _damped_inverses(left: Tensor, right: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    r"""Return inverses whose Kronecker product approximates :math:`(L \otimes R + cI)^{-1}` (arXiv:1503.05671, 6.3).

    They are :math:`(L + \pi\sqrt c I)^{-1}` and :math:`(R + \sqrt c / \pi\, I)^{-1}`, where :math:`\pi^2` is the ratio
    of the factors' mean diagonals. Where a factor is not finite they are not either, and the solve does without the
    model.
    """
    tiny = torch.finfo(left.dtype).tiny
    mean_left, mean_right = (max(float(matrix.trace()) / len(matrix), tiny) for matrix in (left, right))
    if not math.isfinite(mean_left + mean_right):
        return torch.full_like(left, math.nan), torch.full_like(right, math.nan)
    ratio = math.sqrt(mean_left / mean_right)
    relative = max(math.sqrt(damping), _LEAST_SHIFT * math.sqrt(mean_left * mean_right))
    return _inverse(left, ratio * relative), _inverse(right, relative / ratio)


def _inverse(matrix: Tensor, shift: float) -> Tensor:
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(shifted).L)


def _shifted(diagonal: Tensor, damping: float) -> Tensor:
    diagonal = diagonal.clamp_min(0.0)  # a diagonal of a matrix that has no negative eigenvalue, estimated
    return (diagonal + damping).clamp_min(_LEAST_SHIFT**2 * diagonal.mean() + torch.finfo(diagonal.dtype).tiny)


def _orders(factors: KroneckerFactors, slices: Mapping[str, slice], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the position in the parameter vector of each entry in the model's order, and the inverse permutation."""
    matrices = tuple(
        (slices[f"{name}weight"].start, slices[f"{name}bias"].start if f"{name}bias" in slices else None, shape)
        for group in factors.groups
        for name, shape in zip(group.names, group.shapes, strict=True)
    )
    rest = tuple((slices[name].start, slices[name].stop) for name in factors.diagonal)
    return _permutation(matrices, rest, device)


@lru_cache(maxsize=16)  # it is the same at each update of a network
def _permutation(
    matrices: Sequence[tuple[int, int | None, tuple[int, int]]], rest: Sequence[tuple[int, int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    indices = []
    for weight, bias, (height, width) in matrices:
        columns = width if bias is None else width - 1
        index = torch.arange(weight, weight + height * columns).view(height, columns)
        if bias is not None:
            index = torch.cat([index, torch.arange(bias, bias + height).view(height, 1)], dim=1)
        indices.append(index.reshape(-1))
    order = torch.cat(indices + [torch.arange(start, stop) for start, stop in rest])
    return order.to(device), order.argsort().to(device)
