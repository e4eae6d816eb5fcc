r"""The KL divergence that bounds an update, :math:`\bar D_{KL}(\pi_{old} \| \pi_\theta)`."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

__all__ = ["kl_terms", "mean_kl"]


def kl_terms(behaviour: Distribution, distribution: Distribution) -> Tensor:
    r"""Return :math:`D_{KL}(\pi_{old}(\cdot|s_n) \| \pi_\theta(\cdot|s_n))` for each row, shape ``(N,)``, in nats.

    The divergence runs from the behaviour policy to the new one, as in arXiv:1502.05477, equation 12. A term may be
    negative, by rounding or because a divergence that was registered for a family is a Monte Carlo estimate. Only the
    mean over the rows is a divergence of policies: see :func:`mean_kl`.
    """
    return kl_divergence(behaviour, distribution)


def mean_kl(total: float, count: int) -> float:
    """Return the mean divergence from the sum of its terms over ``count`` rows: at least zero, NaN where a term is.

    Negative terms of an estimate offset positive ones, so that the mean is unbiased; zero in their place would raise it
    by about the estimate's spread.
    """
    mean = total / count
    return 0.0 if mean < 0.0 else mean
