r"""The mathematics of a trust-region step, without Tianshou: usable in a training loop of your own.

:func:`trust_region_update` is the whole step for any module that returns an action distribution. Each symbol of the
paper (Schulman et al. 2015, arXiv:1502.05477) has its file:

* :math:`L`: :mod:`~trpo_ts.solver.surrogate`, averaged over the rows in :mod:`~trpo_ts.solver.problem`
* :math:`D_{KL}`: :mod:`~trpo_ts.solver.divergence`
* :math:`g`: :mod:`~trpo_ts.solver.policy_gradient`
* :math:`F`: :mod:`~trpo_ts.solver.fisher`
* :math:`x`: :mod:`~trpo_ts.solver.conjugate_gradient`
* :math:`\alpha`: :mod:`~trpo_ts.solver.step_size`
* :math:`\delta`: :mod:`~trpo_ts.solver.trust_region`, kept by :mod:`~trpo_ts.solver.line_search`

:math:`M`, the Fisher matrix in the distribution's own parameters, is in :mod:`trpo_ts.distributions.fisher_metric`.
"""

from trpo_ts.kfac.settings import KFAC
from trpo_ts.solver.conjugate_gradient import Solution, conjugate_gradient
from trpo_ts.solver.line_search import Evaluation, backtracking_line_search
from trpo_ts.solver.linear_operators import damped
from trpo_ts.solver.outcomes import StepOutcome
from trpo_ts.solver.problem import PolicyProblem
from trpo_ts.solver.step_size import full_step_size
from trpo_ts.solver.trust_region import PolicyStep, SolverSettings, natural_gradient, trust_region_step
from trpo_ts.solver.update import trust_region_update

__all__ = [
    "KFAC",
    "Evaluation",
    "PolicyProblem",
    "PolicyStep",
    "Solution",
    "SolverSettings",
    "StepOutcome",
    "backtracking_line_search",
    "conjugate_gradient",
    "damped",
    "full_step_size",
    "natural_gradient",
    "trust_region_step",
    "trust_region_update",
]
