r"""Categories of which some are impossible: a logit of :math:`-\infty` is a probability of exactly 0."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.kl import register_kl

from trpo_ts.distributions.detached_double import detached_double_tensor, register_detached_double
from trpo_ts.distributions.families import categorical_metric
from trpo_ts.distributions.fisher_metric import register_metric

__all__ = ["MaskedCategorical"]


class MaskedCategorical(Categorical):
    r"""A categorical distribution, given by logits, over the categories whose logit is not :math:`-\infty`.

    The others are neither drawn nor the mode, and count as :math:`0 \log 0 = 0` in entropy and KL divergence, with
    finite gradients. (torch's own entropy puts the largest number of the dtype there, which an entropy coefficient
    above 1 makes overflow, so that the gradient is not a number.)

    Invalid action masking: Huang, Ontañón 2022, arXiv:2006.14171, section 3.
    """

    def entropy(self) -> Tensor:
        """Return the entropy of each distribution, in nats."""
        log_probs = self.logits.masked_fill(self.logits.isneginf(), 0.0)
        return -(self.probs * log_probs).sum(-1)


@register_kl(MaskedCategorical, MaskedCategorical)  # type: ignore[untyped-decorator]
def _divergence(p: MaskedCategorical, q: MaskedCategorical) -> Tensor:
    log_ratio = (p.logits - q.logits).masked_fill(p.logits.isneginf(), 0.0)
    return (p.probs * log_ratio).sum(-1)


# Impossible categories have no part in diag(p): the same form holds.
register_metric(MaskedCategorical)(categorical_metric)


@register_detached_double(MaskedCategorical)
def _detached(distribution: MaskedCategorical) -> Distribution:
    return MaskedCategorical(logits=detached_double_tensor(distribution.logits), validate_args=False)
