"""Critics for Tianshou 2: value networks and the ways to fit them."""

from trpo_ts.critics.factory import make_critic

__all__ = ["make_critic"]
