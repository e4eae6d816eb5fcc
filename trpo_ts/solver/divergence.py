r"""The KL divergence that bounds an update, :math:`\bar D_{KL}(\pi_{old} \| \pi_\theta)`."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

__all__ = ["kl_terms"]


def kl_terms(behaviour: Distribution, distribution: Distribution) -> Tensor:
    r"""Return :math:`D_{KL}(\pi_{old}(\cdot|s_n) \| \pi_\theta(\cdot|s_n))` for each row, shape ``(N,)``, in nats.

    The divergence runs from the behaviour policy to the new one, as in arXiv:1502.05477, equation 12. Rounding can make
    the divergence of two nearly equal policies negative, by about 1e-17: negative terms become zero.
    """
    return kl_divergence(behaviour, distribution).clamp_min(0.0)
