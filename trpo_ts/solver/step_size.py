r"""The step size :math:`\alpha` of the full step :math:`\alpha x`, before the line search cuts it."""

from __future__ import annotations

import math

__all__ = ["full_step_size"]


def full_step_size(max_kl: float, curvature: float) -> float:
    r"""Return :math:`\alpha = \sqrt{2\delta / x^\top (F + cI) x}`: there the KL's quadratic model is :math:`\delta`.

    The line search accepts a fraction of it: see :attr:`trpo_ts.solver.trust_region.PolicyStep.step_size`.
    arXiv:1502.05477, appendix C, where :math:`\alpha`, :math:`F` and :math:`x` are called :math:`\beta`, :math:`A` and
    :math:`s`; the damping :math:`c` is an addition.

    :param max_kl: :math:`\delta` > 0, in nats.
    :param curvature: :math:`x^\top (F + cI) x > 0` of the search direction :math:`x`.
    """
    return math.sqrt(2.0 * max_kl / curvature)
