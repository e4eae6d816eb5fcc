"""Action distributions: their Fisher matrices in closed form, products and masked categories, how they are sampled."""

from trpo_ts.distributions.constants import exact_log_prob, frozen, register_frozen
from trpo_ts.distributions.families import register_like_parent
from trpo_ts.distributions.fisher_metric import FisherMetric, fisher_metric, register_metric
from trpo_ts.distributions.masked_categorical import MaskedCategorical
from trpo_ts.distributions.product import Product

__all__ = [
    "FisherMetric",
    "MaskedCategorical",
    "Product",
    "exact_log_prob",
    "fisher_metric",
    "frozen",
    "register_frozen",
    "register_like_parent",
    "register_metric",
]
