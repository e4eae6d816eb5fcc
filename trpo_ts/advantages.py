r"""Advantages :math:`A`: generalised advantage estimation and normalisation."""

from __future__ import annotations

import math

import numpy as np
import torch
from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm
from tianshou.data import ReplayBuffer
from tianshou.data.types import RolloutBatchProtocol
from torch import Tensor

from trpo_ts.moments import Moments

__all__ = ["generalised_advantages", "normalised"]


def generalised_advantages(
    batch: RolloutBatchProtocol,
    buffer: ReplayBuffer,
    indices: np.ndarray,
    *,
    values: np.ndarray,
    next_values: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    r"""Return the advantages of a rollout, shape ``(N,)``, in units of reward.

    .. math::
        \delta^V_t = r_t + \gamma (1 - d_t) V(s'_t) - V(s_t), \qquad
        A_t = \delta^V_t + \gamma \lambda (1 - e_t) A_{t+1}

    Schulman et al. 2016, arXiv:1506.02438, equation 16. The next observation :math:`s'_t` is not that of the following
    row after a truncation. :math:`d_t` is 1 where the episode terminated. :math:`e_t` is 1 there too, and where the
    episode was truncated or the rollout ends. The loop is Tianshou's compiled one.

    :param batch: Tianshou's batch, for rewards.
    :param buffer: the buffer it is from, for the ends of episodes.
    :param indices: where in the buffer.
    :param values: V(s), shape ``(N,)``.
    :param next_values: V(s') of the next observations, shape ``(N,)``.
    :param gamma: the discount factor.
    :param gae_lambda: :math:`\lambda`.
    """
    # Tianshou's own mask is that of the buffer's row, which for one of several agents need not be where it ended.
    next_values = next_values * ~batch.terminated
    _, advantages = OnPolicyAlgorithm.compute_episodic_return(
        batch, buffer, indices, next_values, values, gamma=gamma, gae_lambda=gae_lambda
    )
    return advantages


def normalised(adv: Tensor, of_all: Moments | None = None) -> Tensor:
    r"""Return :math:`(A - \bar A) / \sigma_A` with the standard deviation :math:`\sigma_A`, shape ``(N,)``.

    Advantages without spread (constant up to rounding, or a single one) become zero: there is nothing to learn
    from them, and the quotient would be noise or not a number.

    :param adv: the advantages.
    :param of_all: the moments of the advantages of all ranks; None in a single process.
    """
    largest = adv.abs().max() if of_all is None else adv.new_tensor(of_all.largest)
    if (len(adv) if of_all is None else of_all.count) < 2 or largest == 0.0:
        return torch.zeros_like(adv)
    scaled = adv / largest  # squares stay within the range of the dtype
    if of_all is None:
        centred, std = scaled - scaled.mean(), scaled.std()
    else:
        centred, std = scaled - of_all.mean, scaled.new_tensor(math.sqrt(of_all.squares / (of_all.count - 1)))
    return torch.zeros_like(adv) if std <= 4 * torch.finfo(adv.dtype).eps else centred / std
