r"""Returns :math:`R`: the critic's targets, the unit in which it is fitted to them, and how well it predicts them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from tianshou.utils import RunningMeanStd
from torch import Tensor

__all__ = ["explained_variance", "lambda_returns", "return_unit", "statistics_including"]

_LEAST_VARIANCE = 1e-8


def lambda_returns(advantages: np.ndarray, values: np.ndarray) -> np.ndarray:
    r"""Return the TD(:math:`\lambda`) targets :math:`R_t = A_t + V(s_t)`, shape ``(N,)``.

    Schulman et al. 2016, arXiv:1506.02438, section 5, the footnote on targets of the value function.

    :param advantages: :math:`A`, shape ``(N,)``, before they are normalised.
    :param values: :math:`V(s)`, shape ``(N,)``, in the same unit.
    """
    returns: np.ndarray = advantages + values
    return returns


def return_unit(statistics: RunningMeanStd) -> float:
    """Return the standard deviation of all returns so far, by which the critic's targets are divided."""
    return float(np.sqrt(statistics.var + _LEAST_VARIANCE))


def statistics_including(statistics: RunningMeanStd, returns: np.ndarray) -> RunningMeanStd:
    """Return the running statistics with a rollout's returns added, or as they are where these would not be finite."""
    updated = copy.copy(statistics)
    with np.errstate(over="ignore", invalid="ignore"):
        updated.update(returns)
    return updated if np.isfinite(updated.mean) and np.isfinite(updated.var) else statistics


def explained_variance(values: Tensor, returns: Tensor) -> float:
    r"""Return :math:`1 - \mathrm{Var}[R - V] / \mathrm{Var}[R]`; 0.0 where the returns do not vary or overflow."""
    rounding = torch.finfo(returns.dtype).eps * float(returns.abs().max())
    values, returns = values.double(), returns.double()
    total = float(returns.var(correction=0))
    if not total > rounding * rounding:
        return 0.0
    share = float((returns - values).var(correction=0)) / total
    return 1.0 - share if np.isfinite(share) else 0.0
