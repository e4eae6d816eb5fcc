"""Policies for Tianshou 2: networks and action distributions for the supported spaces."""

from trpo_ts.policies.factory import make_policy
from trpo_ts.policies.gaussian import diagonal_gaussian

__all__ = ["diagonal_gaussian", "make_policy"]
