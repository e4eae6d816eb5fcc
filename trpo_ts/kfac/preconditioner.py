r"""Products and solves with K-FAC's approximation of a matrix, :math:`\tilde F_{lm} = \Omega_{lm} \otimes \Gamma_{lm}`.

A vector is cut into one matrix :math:`X_l` for each layer, in the shape of its weights and bias :math:`[W_l | b_l]`.
The approximation acts on them as

.. math:: (\tilde F X)_l = \sum_m \Gamma_{lm} X_m \Omega_{ml},

which takes no data, only small matrices. So :math:`(\tilde F + \tilde c I)^{-1}` is applied by a few inner iterations
of conjugate gradient, which in turn are preconditioned by the inverses of the diagonal blocks. Martens and Grosse 2015
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
would blow up the rounding in directions that the rows do not span.
"""


class KroneckerPreconditioner:
    r"""Products with :math:`\tilde C = \tilde F + \tilde c I`, which approximates :math:`F + cI`, and with its inverse.

    :param factors: the factors of :math:`\tilde F`.
    :param slices: the slice of the parameter vector that each parameter takes, by name.
    :param damping: :math:`\tilde c`, which is :math:`c` or more: see ``KFAC.relative_damping``.
    :param inner_iterations: iterations of conjugate gradient on :math:`\tilde C`, >= 1; one takes the diagonal
        blocks alone.
    """

    def __init__(
        self, factors: KroneckerFactors, slices: Mapping[str, slice], *, damping: float, inner_iterations: int
    ) -> None:
        self._inner_iterations = inner_iterations
        self._blocks = [_Block(group, damping) for group in factors.groups]
        tensors = [group.input_factor for group in factors.groups] + list(factors.diagonal.values())
        self._order, self._back = _orders(factors, slices, tensors[0].device)
        self._diagonal = torch.cat(
            [tensors[0].new_empty(0)] + [_shifted(d, damping) for d in factors.diagonal.values()]
        )
        # The vectors of the inner iteration are allocated and cut once: doing so in each product took most of the time.
        self._residual, self._preconditioned, self._direction, self._product = (self._vector() for _ in range(4))

    def multiply(self, v: Tensor) -> Tensor:
        r"""Return :math:`\tilde C v`, shape ``(P,)``."""
        torch.index_select(v, 0, self._order, out=self._direction.flat)
        self._multiply()
        return self._product.flat[self._back]

    def solve(self, r: Tensor) -> Tensor:
        r"""Return an approximate :math:`(\tilde F + cI)^{-1} r`, shape ``(P,)``."""
        # Conjugate gradient from x = 0, with the diagonal blocks as its preconditioner. Nothing is read from the
        # device: a step past convergence divides by `tiny` and adds a zero.
        residual, preconditioned = self._residual.flat, self._preconditioned.flat
        direction, product = self._direction.flat, self._product.flat
        torch.index_select(r, 0, self._order, out=residual)
        self._solve_blocks()
        if self._inner_iterations == 1:  # a scale would make no difference
            return preconditioned[self._back]
        x = torch.zeros_like(residual)
        direction.copy_(preconditioned)
        squared_norm = residual.dot(preconditioned)
        for i in range(self._inner_iterations):
            if i > 0:
                self._solve_blocks()
                previous, squared_norm = squared_norm, residual.dot(preconditioned)
                torch.addcmul(preconditioned, direction, squared_norm / previous, out=direction)
            self._multiply()
            length = squared_norm / direction.dot(product).clamp_min(torch.finfo(direction.dtype).tiny)
            x.addcmul_(direction, length)
            residual.addcmul_(product, length, value=-1.0)
        return x[self._back]

    def _multiply(self) -> None:
        """Set the product of the inner iteration from its direction."""
        for block, matrices, products in zip(
            self._blocks, self._direction.matrices, self._product.matrices, strict=True
        ):
            block.multiply(matrices, products)
        torch.mul(self._diagonal, self._direction.rest, out=self._product.rest)

    def _solve_blocks(self) -> None:
        """Set the preconditioned residual of the inner iteration from its residual."""
        for block, matrices, solutions in zip(
            self._blocks, self._residual.matrices, self._preconditioned.matrices, strict=True
        ):
            block.solve(matrices, solutions)
        torch.div(self._residual.rest, self._diagonal, out=self._preconditioned.rest)

    def _vector(self) -> _Vector:
        return _Vector([block.shapes for block in self._blocks], self._diagonal)


class _Vector:
    """A vector in the order of the factors: the layers' matrices ``[W | b]`` in turn, then the other parameters.

    :param shapes: for each block, the matrices' shapes.
    :param rest: what the other parameters look like, shape ``(n,)``.
    """

    def __init__(self, shapes: Sequence[Sequence[tuple[int, int]]], rest: Tensor) -> None:
        sizes = [height * width for block in shapes for height, width in block]
        self.flat = rest.new_empty(sum(sizes) + len(rest))
        *flat_matrices, self.rest = self.flat.split([*sizes, len(rest)])
        remaining = iter(flat_matrices)
        self.matrices = [[next(remaining).view(shape) for shape in block] for block in shapes]


class _Block:
    """The damped approximation of one group of layers, on their matrices ``[W | b]``."""

    def __init__(self, group: FactorGroup, damping: float) -> None:
        self.shapes, self._damping = group.shapes, damping
        heights, widths = ([shape[i] for shape in group.shapes] for i in (0, 1))
        # The blocks of each layer with all layers, side by side: Omega_m., and Gamma_l.
        self._omegas = group.input_factor.split(widths)
        self._gammas = group.derivative_factor.split(heights)
        # Two views of one buffer. Its horizontal bands hold X_m Omega_m. of each layer m, one below the other; its
        # vertical bands hold X_m Omega_ml of all layers m, for each layer l: what is multiplied with Gamma_l.
        buffer = group.input_factor.new_empty(sum(heights), sum(widths))
        self._horizontal_bands, self._vertical_bands = buffer.split(heights), buffer.split(widths, dim=1)
        self._inverses = [
            _damped_inverses(gamma.split(heights, dim=1)[layer], omega.split(widths, dim=1)[layer], damping)
            for layer, (gamma, omega) in enumerate(zip(self._gammas, self._omegas, strict=True))
        ]
        self._halves = [group.input_factor.new_empty(shape) for shape in group.shapes]

    def multiply(self, matrices: Sequence[Tensor], products: Sequence[Tensor]) -> None:
        """Write sum_m Gamma_lm X_m Omega_ml + c~ X_l of each layer l into ``products``."""
        # First X_m Omega_m. of each layer m, (outputs of m, inputs of all layers).
        for matrix, omega, band in zip(matrices, self._omegas, self._horizontal_bands, strict=True):
            torch.mm(matrix, omega, out=band)
        # Then for each layer l one product sums over m: Gamma_l., (outputs of l, outputs of all layers), by its band.
        for matrix, gamma, band, product in zip(matrices, self._gammas, self._vertical_bands, products, strict=True):
            torch.addmm(matrix, gamma, band, beta=self._damping, out=product)

    def solve(self, matrices: Sequence[Tensor], solutions: Sequence[Tensor]) -> None:
        """Write the products with the diagonal blocks' inverses, Gamma_ll^-1 X_l Omega_ll^-1, into ``solutions``."""
        for matrix, (gamma_inverse, omega_inverse), half, solution in zip(
            matrices, self._inverses, self._halves, solutions, strict=True
        ):
            torch.mm(gamma_inverse, matrix, out=half)
            torch.mm(half, omega_inverse, out=solution)


def _damped_inverses(gamma: Tensor, omega: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    r"""Return inverses whose Kronecker product approximates :math:`(\Omega \otimes \Gamma + cI)^{-1}`.

    They are :math:`(\Gamma + q\sqrt c I)^{-1}` and :math:`(\Omega + \sqrt c / q\, I)^{-1}`, where :math:`q^2` is the
    ratio of the factors' mean diagonals (arXiv:1503.05671, section 6.3, where :math:`1 / q` is called :math:`\pi`).
    Where a factor is not finite they are not either, and the solve does without the preconditioner.
    """
    tiny = torch.finfo(gamma.dtype).tiny
    mean_gamma, mean_omega = (max(float(factor.trace()) / len(factor), tiny) for factor in (gamma, omega))
    if not math.isfinite(mean_gamma + mean_omega):
        return torch.full_like(gamma, math.nan), torch.full_like(omega, math.nan)
    q = math.sqrt(mean_gamma / mean_omega)
    shift = max(math.sqrt(damping), _LEAST_SHIFT * math.sqrt(mean_gamma * mean_omega))
    return _inverse(gamma, q * shift), _inverse(omega, shift / q)


def _inverse(matrix: Tensor, shift: float) -> Tensor:
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(shifted).L)


def _shifted(diagonal: Tensor, damping: float) -> Tensor:
    diagonal = diagonal.clamp_min(0.0)  # a diagonal of a matrix that has no negative eigenvalue, estimated
    return (diagonal + damping).clamp_min(_LEAST_SHIFT**2 * diagonal.mean() + torch.finfo(diagonal.dtype).tiny)


def _orders(factors: KroneckerFactors, slices: Mapping[str, slice], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where in the parameter vector each entry of a :class:`_Vector` is, and the inverse permutation."""
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
