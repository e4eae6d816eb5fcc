"""Networks that policies and critics have in common: encoders of observations, trunks, linear heads."""

from trpo_ts.networks.heads import LinearActor
from trpo_ts.networks.trunk import Trunk, make_trunk

__all__ = ["LinearActor", "Trunk", "make_trunk"]
