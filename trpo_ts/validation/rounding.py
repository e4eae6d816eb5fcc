"""How far rounding may move the probabilities of a policy's actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import Rows

__all__ = ["differ"]


def differ(left: Tensor, right: Tensor, policy_function: RowFunction, rows: Rows, act: Tensor) -> bool:
    """Whether two computations of log-probabilities differ by more than sums in another order explain.

    A small deviation amplifies the rounding of a mean: how much, is tried on the policy where the two are not close.

    :param left: log-probabilities, shape ``(n,)``.
    :param right: the same, computed in another way.
    :param policy_function: the policy, which draws no random numbers.
    :param rows: some rows, on which rounding is tried.
    :param act: the actions of all rows, shape ``(N, ...)``.
    """
    if torch.equal(left, right):
        return False
    difference = torch.where(left == right, 0.0, (left - right).abs()).nan_to_num(torch.inf)
    difference[left.isnan() & right.isnan()] = 0.0
    close = 64 * torch.finfo(right.dtype).eps * (1.0 + right.abs().nan_to_num(0.0, 0.0, 0.0))
    return bool((difference > close).any()) and bool((difference > close + _rounding(policy_function, rows, act)).any())


def _rounding(policy_function: RowFunction, rows: Rows, act: Tensor) -> float:
    """Return what sums in another order may make of log-probabilities, tried by parameters a few roundings away."""
    theta = policy_function.parameters.read()
    with torch.no_grad():
        with _CoarsestPrecision() as network:
            exact = policy_function(theta, rows).log_prob(act[rows])
        # Half precision sums in a higher one, and rounds what it returns once; others round each sum.
        roundings, times = (1, 4) if network.eps > _HALF else (8, 16)
        change = torch.full_like(theta, roundings * network.eps)
        change[::2].neg_()
        moved = policy_function(theta * (1.0 + change), rows).log_prob(act[rows])
    return times * float((moved - exact).abs().nan_to_num(0.0, 0.0, 0.0).max())


_HALF = 1e-4
"""Dtypes of larger rounding are of half precision."""


class _CoarsestPrecision(TorchFunctionMode):
    """Finds the largest rounding of the dtypes in which anything is computed meanwhile, as within autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = torch.finfo(torch.float64).eps

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.is_floating_point():
            self.eps = max(self.eps, torch.finfo(found.dtype).eps)
        return found
