r"""Advantages: their normalisation, the reuse of values along a trajectory, and how good the values were.

Generalised advantage estimation itself (Schulman et al. 2016, arXiv:1506.02438, equation 16) is Tianshou's
compiled loop, which masks terminations and cuts at truncations and at the rollout's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor

__all__ = ["continues", "explained_variance", "normalised"]


def normalised(adv: Tensor) -> Tensor:
    r"""Return :math:`(A - \bar A) / s` with the sample's standard deviation :math:`s`, shape ``(N,)``.

    Advantages without spread (constant up to rounding, or a single one) become zero: there is nothing to learn
    from them, and the quotient would be noise or not a number.
    """
    largest = adv.abs().max()
    if len(adv) < 2 or largest == 0.0:
        return torch.zeros_like(adv)
    scaled = adv / largest  # squares stay within the range of the dtype
    centred = scaled - scaled.mean()
    std = scaled.std()
    return torch.zeros_like(adv) if std <= 4 * torch.finfo(adv.dtype).eps else centred / std


def explained_variance(values: Tensor, returns: Tensor) -> float:
    r"""Return :math:`1 - \mathrm{Var}[R - V] / \mathrm{Var}[R]`; 0.0 where the returns do not vary or overflow."""
    rounding = torch.finfo(returns.dtype).eps * float(returns.abs().max())
    values, returns = values.double(), returns.double()
    total = float(returns.var(correction=0))
    if not total > rounding * rounding:
        return 0.0
    share = float((returns - values).var(correction=0)) / total
    return 1.0 - share if np.isfinite(share) else 0.0


def continues(obs: Any, obs_next: Any) -> np.ndarray:
    """Return where a row's next observation is the following row's observation, bit for bit; shape ``(N,)``.

    There V(s') need not be computed again. Comparing the observations themselves needs no knowledge of how the
    buffer lays out its environments. Rows of any other kind of observation are taken not to continue.

    :param obs: observations as a tensor ``(N, ...)`` or nested batches of such.
    :param obs_next: the next observations, likewise.
    """
    if isinstance(obs, Batch) and isinstance(obs_next, Batch) and len(obs.get_keys()) > 0:
        parts = [continues(item, obs_next.get(key)) for key, item in obs.items()]
        return np.asarray(np.logical_and.reduce(parts))
    same = np.zeros(len(obs), dtype=bool)
    if isinstance(obs, Tensor) and isinstance(obs_next, Tensor) and obs.shape == obs_next.shape:
        equal = obs_next[:-1] == obs[1:]
        others = tuple(range(1, equal.dim()))
        same[:-1] = (equal.all(dim=others) if others else equal).cpu().numpy()
    return same
