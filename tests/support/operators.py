"""Matrices as operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Counted:
    """A matrix as an operator that counts its products."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.products = matrix, 0

    def __call__(self, v: Tensor) -> Tensor:
        self.products += 1
        return self.matrix @ v


def randn(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def product_with(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: matrix @ v
