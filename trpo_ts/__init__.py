"""Trust Region Policy Optimization for Tianshou 2: drop in, keep the trust region, see what each update did."""

from trpo_ts import envs
from trpo_ts.natural_gradient.kfac import KFAC
from trpo_ts.npg import NPG
from trpo_ts.stats import NPGTrainingStats, TRPOTrainingStats
from trpo_ts.trpo import TRPO

__all__ = ["KFAC", "NPG", "TRPO", "NPGTrainingStats", "TRPOTrainingStats", "envs"]
