"""Policies for Tianshou 2: networks and action distributions for the supported spaces."""

from trpo_ts.distributions.masked_categorical import MaskedCategorical
from trpo_ts.distributions.product import Product
from trpo_ts.policies.factory import make_policy
from trpo_ts.policies.gaussian import diagonal_gaussian
from trpo_ts.policies.recurrent_policy import RecurrentActor, make_recurrent_policy

__all__ = [
    "MaskedCategorical",
    "Product",
    "RecurrentActor",
    "diagonal_gaussian",
    "make_policy",
    "make_recurrent_policy",
]
