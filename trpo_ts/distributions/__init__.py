"""Action distributions: their Fisher matrices in closed form, products and masked categories, how they are sampled."""

from trpo_ts.distributions.detached_double import detached_double, exact_log_prob, register_detached_double
from trpo_ts.distributions.families import register_like_parent
from trpo_ts.distributions.fisher_metric import FisherMetric, fisher_metric, register_metric
from trpo_ts.distributions.masked_categorical import MaskedCategorical
from trpo_ts.distributions.product import Product

__all__ = [
    "FisherMetric",
    "MaskedCategorical",
    "Product",
    "detached_double",
    "exact_log_prob",
    "fisher_metric",
    "register_detached_double",
    "register_like_parent",
    "register_metric",
]
