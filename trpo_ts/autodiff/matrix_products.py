"""Matrix products of the size of a network's layer, and their activations, by the faster of two libraries.

torch multiplies float32 matrices on the CPU with MKL, which uses the widest instructions of Intel's processors only.
oneDNN, which torch also holds, uses those of others: on an AMD EPYC with AVX-512 it takes half the time from some
hundred rows on. On an Intel Xeon it takes up to twice the time: the transposed products of a gradient are copied first.
It is reached by the operator that ``torch.compile`` emits for a linear layer; where that is missing, MKL does the work.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["affine", "matmul"]

_LEAST_PRODUCTS = 2**20
"""Multiplications below which the call costs more than it saves."""

_LEAST_TANHS = 2**13
"""The same for values of a tanh: it comes with the product, and torch's own takes four times as long."""


_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "tanh": torch.tanh_,
    "sigmoid": torch.sigmoid_,
    "relu": torch.relu_,
}


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    r"""Return :math:`\psi(x W^\top + b)`, without a graph.

    :param x: shape ``(N, inputs)``.
    :param weight: shape ``(outputs, inputs)``.
    :param bias: shape ``(outputs,)``.
    :param activation: the name of :math:`\psi`: "none", "tanh", "sigmoid" or "relu".
    """
    operator = _onednn_linear()
    if operator is None or not (_pays(x, weight, activation) and _suits(x) and _suits(weight)):
        return _IN_PLACE[activation](F.linear(x, weight, bias))
    if activation == "relu":  # oneDNN's makes zero of NaN, which a line search must see
        return torch.relu_(operator(x, weight, bias, "none", [], ""))
    product: Tensor = operator(x, weight, bias, activation, [], "")
    return product


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` of two matrices, without a graph."""
    return affine(a, b.mT)


def _pays(x: Tensor, weight: Tensor, activation: str) -> bool:
    rows = len(x)
    return rows * weight.numel() >= _LEAST_PRODUCTS or (activation == "tanh" and rows * len(weight) >= _LEAST_TANHS)


def _suits(matrix: Tensor) -> bool:
    # oneDNN's way through a matrix with gaps between its rows is a thousand times as slow.
    dense = matrix.is_contiguous() or matrix.mT.is_contiguous()
    return dense and matrix.dtype == torch.float32 and matrix.device.type == "cpu"


@cache
def _onednn_linear() -> torch._ops.OpOverloadPacket | None:
    if _is_intel():
        return None
    try:
        operator = torch.ops.mkldnn._linear_pointwise
        ones = torch.ones(2, 2)
        usable = torch.equal(operator(ones, ones, None, "none", [], ""), ones @ ones)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return operator if usable else None


def _is_intel() -> bool:
    """Whether the processor is Intel's. Timing both libraries instead would let a seed give another training."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        return "Intel" in platform.processor()
