"""Small vectors and distributions in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Normal


def leaf_of(theta: Tensor) -> Tensor:
    return theta.clone().requires_grad_(True)


def normal_of(loc: Tensor, scale: Tensor) -> Independent:
    return Independent(Normal(loc, scale), 1)


OBS = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
