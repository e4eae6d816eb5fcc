"""Rows of a rollout: all of them part by part, or some of them evenly spaced."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Rows", "evenly_spaced", "row_slices"]

Rows = slice | Tensor
"""Rows of the rollout: a contiguous part, or indices."""


def row_slices(count: int, size: int | None) -> list[slice]:
    """Return the slices that cut ``count`` rows into parts of at most ``size``; None means one part."""
    size = size or count
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def evenly_spaced(chosen: int, count: int, device: torch.device) -> Tensor:
    """Return the indices of ``chosen`` of ``count`` rows, in their order; no random number is drawn."""
    return torch.arange(chosen, device=device) * count // chosen
