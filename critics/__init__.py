"""Critics for Tianshou 2: value networks and the ways to fit them."""

from trpo_ts.critics.fit import CriticFit, CriticTask
from trpo_ts.critics.gauss_newton_fit import GaussNewtonFit
from trpo_ts.critics.lbfgs_fit import LBFGSFit
from trpo_ts.critics.optimizer_fit import MinibatchFit, OptimizerFit
from trpo_ts.critics.recurrent_critic import RecurrentCritic, make_recurrent_critic
from trpo_ts.critics.value_network import make_critic

__all__ = [
    "CriticFit",
    "CriticTask",
    "GaussNewtonFit",
    "LBFGSFit",
    "MinibatchFit",
    "OptimizerFit",
    "RecurrentCritic",
    "make_critic",
    "make_recurrent_critic",
]
