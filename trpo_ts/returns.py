r"""Returns :math:`R`: the critic's targets, the unit in which it is fitted to them, and how well it predicts them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from tianshou.utils import RunningMeanStd
from torch import Tensor

from trpo_ts.moments import Moments

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


def statistics_including(
    statistics: RunningMeanStd, returns: np.ndarray, of_all: Moments | None = None
) -> RunningMeanStd:
    """Return the running statistics with a rollout's returns added, or as they are where these would not be finite.

    :param statistics: those of the rollouts before.
    :param returns: the rollout's.
    :param of_all: the moments of the returns of all ranks, which are added in their place; None in a single process.
    """
    updated = copy.copy(statistics)
    with np.errstate(over="ignore", invalid="ignore"):
        if of_all is None:
            updated.update(returns)
        else:
            updated.mean, updated.var, updated.count = _with_moments(statistics, of_all)
    return updated if np.isfinite(updated.mean) and np.isfinite(updated.var) else statistics


def _with_moments(statistics: RunningMeanStd, added: Moments) -> tuple[np.float64, np.float64, int]:
    """Return mean, variance and count with some numbers added, as ``RunningMeanStd.update`` computes them."""
    unit, count = np.float64(added.largest), statistics.count + added.count
    delta = unit * added.mean - statistics.mean
    of_both = statistics.var * statistics.count + unit * unit * added.squares
    between = delta**2 * statistics.count * added.count / count
    return np.float64(statistics.mean + delta * added.count / count), np.float64((of_both + between) / count), count


def explained_variance(values: Tensor, returns: Tensor) -> float:
    r"""Return :math:`1 - \mathrm{Var}[R - V] / \mathrm{Var}[R]`; 0.0 where the returns do not vary or overflow."""
    rounding = torch.finfo(returns.dtype).eps * float(returns.abs().max())
    values, returns = values.double(), returns.double()
    total = float(returns.var(correction=0))
    if not total > rounding * rounding:
        return 0.0
    share = float((returns - values).var(correction=0)) / total
    return 1.0 - share if np.isfinite(share) else 0.0
