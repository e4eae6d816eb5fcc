r"""K-FAC: a model of the Fisher matrix as a preconditioner of conjugate gradient.

Taking inputs and derivatives of the layers for independent (Martens and Grosse 2015, arXiv:1503.05671) gives

.. math:: \tilde F_{lm} = \mathbb{E}[a_l a_m^\top] \otimes \mathbb{E}[g_l g_m^\top].

The blocks between layers are kept. A product with :math:`\tilde F` needs no data, only small matrices, so that
:math:`(\tilde F + cI)^{-1}` is applied by a few inner iterations of conjugate gradient, which in turn are
preconditioned by the inverses of the diagonal blocks.

The model only speeds up the solution of the true system: what the iteration converges to does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trpo_ts.natural_gradient.kronecker import LayerGroup, Moments

__all__ = ["KFAC", "KroneckerPreconditioner"]


_LEAST_SHIFT = 1e-3
"""The least shift of a factor before it is inverted, relative to its mean diagonal: without damping the inverse
would blow up the rounding in directions that the samples do not span.
"""


@dataclass(frozen=True)
class KFAC:
    """The choice of K-FAC as the preconditioner of the natural gradient's solve.

    Linear and convolutional layers are modelled; all other parameters have a diagonal. Where the network has no
    such layer, or the distribution no closed-form Fisher matrix, the solve goes without.

    :param inner_iterations: iterations of conjugate gradient on the model, >= 1. One takes the diagonal blocks alone.
    :param samples: the most samples from which the model is estimated, >= 1, evenly spaced in the rollout.
    """

    inner_iterations: int = 4
    samples: int = 512

    def __post_init__(self) -> None:
        for name, value in (("inner_iterations", self.inner_iterations), ("samples", self.samples)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")

    def at(self, moments: Moments, slices: Mapping[str, slice], damping: float) -> KroneckerPreconditioner:
        """Return the preconditioner from a batch's moments; see :class:`KroneckerPreconditioner`."""
        return KroneckerPreconditioner(moments, slices, damping=damping, inner_iterations=self.inner_iterations)


class KroneckerPreconditioner:
    r"""Approximate solutions of :math:`(F + cI) z = r`, and products with the model that they rest on.

    :param moments: the second moments.
    :param slices: where each parameter stands in the parameter vector, by name.
    :param damping: :math:`c`.
    :param inner_iterations: see :class:`KFAC`.
    """

    def __init__(self, moments: Moments, slices: Mapping[str, slice], *, damping: float, inner_iterations: int) -> None:
        self._damping = damping
        self._inner_iterations = inner_iterations
        self._order = torch.cat(
            [index.reshape(-1) for group in moments.groups for index in _matrix_indices(group, slices)]
            + [torch.arange(slices[name].start, slices[name].stop) for name in moments.diagonal]
        )
        self._blocks = [_Block(group, damping) for group in moments.groups]
        self._diagonals = [_shifted(value, damping) for value in moments.diagonal.values()]
        self._sizes = [block.size for block in self._blocks] + [len(d) for d in self._diagonals]
        device = (self._diagonals or [moments.groups[0].inputs])[0].device
        self._order = self._order.to(device)
        self._back = torch.empty_like(self._order)
        self._back[self._order] = torch.arange(len(self._order), device=device)

    def multiply(self, v: Tensor) -> Tensor:
        r"""Return :math:`(\tilde F + cI) v`, shape ``(P,)``."""
        return self._multiply(v[self._order])[self._back]

    def solve(self, r: Tensor) -> Tensor:
        r"""Return an approximate :math:`(\tilde F + cI)^{-1} r`, shape ``(P,)``."""
        residual = r[self._order]
        x, p, r_dot_z = torch.zeros_like(residual), torch.zeros_like(residual), torch.ones_like(residual[0])
        for i in range(self._inner_iterations):
            z = self._solve_blocks(residual)
            previous, r_dot_z = r_dot_z, residual.dot(z)
            p = z if i == 0 else z + (r_dot_z / previous) * p
            if self._inner_iterations == 1:
                return p[self._back]  # a scale would make no difference
            a_p = self._multiply(p)
            step = r_dot_z / p.dot(a_p).clamp_min(torch.finfo(p.dtype).tiny)
            x = x + step * p
            residual = residual - step * a_p
        return x[self._back]

    def _multiply(self, v: Tensor) -> Tensor:
        parts = v.split(self._sizes)
        products = [block.multiply(part) for block, part in zip(self._blocks, parts, strict=False)]
        products += [d * part for d, part in zip(self._diagonals, parts[len(self._blocks) :], strict=True)]
        return torch.cat(products)

    def _solve_blocks(self, v: Tensor) -> Tensor:
        parts = v.split(self._sizes)
        solutions = [block.solve(part) for block, part in zip(self._blocks, parts, strict=False)]
        solutions += [part / d for d, part in zip(self._diagonals, parts[len(self._blocks) :], strict=True)]
        return torch.cat(solutions)


class _Block:
    """The damped model of one group, on vectors that hold the layers' matrices ``[W | b]`` one after another."""

    def __init__(self, group: LayerGroup, damping: float) -> None:
        self._shapes, self._damping = group.shapes, damping
        self._sizes = [height * width for height, width in group.shapes]
        self.size = sum(self._sizes)
        heights, widths = ([shape[i] for shape in group.shapes] for i in (0, 1))
        self._widths = widths
        self._columns = group.inputs.split(widths)
        self._rows = group.derivatives.split(heights)
        self._inverses = [
            _damped_inverses(row.split(heights, dim=1)[i], column.split(widths, dim=1)[i], damping)
            for i, (row, column) in enumerate(zip(self._rows, self._columns, strict=True))
        ]

    def multiply(self, v: Tensor) -> Tensor:
        """Return sum_m G_lm V_m A_ml + c V_l of each layer l."""
        right = torch.cat([matrix @ columns for matrix, columns in zip(self._matrices(v), self._columns, strict=True)])
        parts = right.split(self._widths, dim=1)
        product = torch.cat([(rows @ part).view(-1) for rows, part in zip(self._rows, parts, strict=True)])
        return product.add_(v, alpha=self._damping)

    def solve(self, v: Tensor) -> Tensor:
        """Return the product with the inverse of the diagonal blocks."""
        matrices = zip(self._matrices(v), self._inverses, strict=True)
        return torch.cat([(left @ matrix @ right).view(-1) for matrix, (left, right) in matrices])

    def _matrices(self, v: Tensor) -> Sequence[Tensor]:
        return [part.view(shape) for part, shape in zip(v.split(self._sizes), self._shapes, strict=True)]


def _damped_inverses(left: Tensor, right: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Return inverses whose Kronecker product stands for (left x right + damping)^-1 (arXiv:1503.05671, 6.3)."""
    tiny = torch.finfo(left.dtype).tiny
    mean_left, mean_right = (matrix.diagonal().mean().clamp_min(tiny) for matrix in (left, right))
    shift = ((mean_left / mean_right).sqrt() * math.sqrt(damping)).clamp_min(_LEAST_SHIFT * mean_left)
    return _inverse(left, shift), _inverse(right, shift * (mean_right / mean_left))


def _inverse(matrix: Tensor, shift: Tensor) -> Tensor:
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(shifted).L)


def _shifted(diagonal: Tensor, damping: float) -> Tensor:
    return (diagonal + damping).clamp_min(_LEAST_SHIFT**2 * diagonal.mean() + torch.finfo(diagonal.dtype).tiny)


def _matrix_indices(group: LayerGroup, slices: Mapping[str, slice]) -> list[Tensor]:
    """Return, for each layer, where the entries of ``[W | b]`` stand in the parameter vector."""
    indices = []
    for name, (height, width) in zip(group.names, group.shapes, strict=True):
        weight = slices[f"{name}weight"]
        index = torch.arange(weight.start, weight.stop).view(height, -1)
        if index.shape[1] < width:
            bias = slices[f"{name}bias"]
            index = torch.cat([index, torch.arange(bias.start, bias.stop).view(height, 1)], dim=1)
        indices.append(index)
    return indices
