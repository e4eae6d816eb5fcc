r"""The surrogate objective :math:`L` of a rollout, row by row, and what else is averaged over its rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["action_std_terms", "entropy_terms", "surrogate_terms"]


def surrogate_terms(logp: Tensor, logp_old: Tensor, adv: Tensor) -> Tensor:
    r"""Return :math:`\frac{\pi_\theta(a_n|s_n)}{\pi_{old}(a_n|s_n)} A_n` for each row; their mean is :math:`L(\theta)`.

    arXiv:1502.05477, equation 14, with the behaviour policy as the sampling distribution.

    :param logp: :math:`\log \pi_\theta(a_n|s_n)`, shape ``(N,)``.
    :param logp_old: :math:`\log \pi_{old}(a_n|s_n)`, shape ``(N,)``.
    :param adv: the advantages :math:`A_n`, shape ``(N,)``.
    """
    return torch.exp(logp - logp_old) * adv


def entropy_terms(distribution: Distribution) -> Tensor | None:
    """Return the entropy for each row, shape ``(N,)``, in nats; None where the distribution has no closed form."""
    try:
        return distribution.entropy()
    except NotImplementedError:
        return None


def action_std_terms(distribution: Distribution) -> Tensor | None:
    """Return the standard deviation for each row, averaged over the components that have one, shape ``(N,)``.

    None where the distribution implements none; not finite where no component has one, as for categories.
    """
    try:
        std = distribution.stddev
    except NotImplementedError:
        return None
    return std.reshape(std.shape[0], -1).nanmean(dim=1)
