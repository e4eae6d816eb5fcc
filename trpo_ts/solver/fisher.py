r"""Products with the Fisher information matrix :math:`F` of a policy, without forming it.

The mean Fisher matrix over :math:`N` observations, with respect to the policy's parameters :math:`\theta`, is

.. math:: F = \frac{1}{N} \sum_n J_n^\top M(z_n) J_n, \qquad J_n = \partial z_n / \partial \theta,

where :math:`z_n` are the parameters of the action distribution and :math:`M` its closed-form Fisher matrix. It
equals the Hessian of the mean KL divergence at the point where both policies agree (arXiv:1502.05477, appendix C, which
calls it :math:`A`, and :math:`z` :math:`\mu`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from trpo_ts.autodiff.gauss_newton import GaussNewton
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import Rows, row_count
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.solver.linear_operators import LinearOperator, weighted_sum

__all__ = ["distribution_parameters_at", "fisher_operator", "fisher_operator_of_micro_batches", "kl_hessian_product"]


def fisher_operator(
    policy_function: RowFunction, theta: Tensor, rows: Rows, distribution: Distribution
) -> LinearOperator:
    r"""Return :math:`v \mapsto F v` over some rows; it keeps their graph.

    :param policy_function: maps :math:`\theta` and rows to action distributions.
    :param theta: the leaf ``(P,)``.
    :param rows: the rows.
    :param distribution: the policy function's value at ``theta`` for these rows, with its graph.
    """
    metric = fisher_metric(distribution)
    if metric is not None:
        return GaussNewton(metric, [theta], outputs_at=distribution_parameters_at(policy_function, rows)).of_vector
    with torch.no_grad():
        here = policy_function(theta, rows)
    return kl_hessian_product(here, distribution, theta)


def fisher_operator_of_micro_batches(
    policy_function: RowFunction, theta: Tensor, micro_batches: Sequence[Rows]
) -> LinearOperator:
    r"""Return :math:`v \mapsto F v` over all micro-batches together; each product makes a pass over each of them.

    No graph is kept between products, so that memory is bounded by the largest micro-batch. A single one keeps its
    graph.
    """

    def with_graph(rows: Rows) -> LinearOperator:
        with torch.enable_grad():
            return fisher_operator(policy_function, theta, rows, policy_function(theta, rows))

    def by_passes(rows: Rows) -> LinearOperator:
        return lambda v: with_graph(rows)(v)

    single = len(micro_batches) == 1
    operators = [with_graph(micro_batches[0])] if single else [by_passes(rows) for rows in micro_batches]
    counts = [row_count(rows) for rows in micro_batches]
    return weighted_sum(operators, [count / sum(counts) for count in counts])


def distribution_parameters_at(
    policy_function: RowFunction, rows: Rows
) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
    r"""Return :math:`[\theta] \mapsto z`: the action distributions' parameters for some rows."""

    def outputs(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        metric = fisher_metric(policy_function(parameters[0], rows))
        assert metric is not None
        return metric.outputs

    return outputs


def kl_hessian_product(here: Distribution, distribution: Distribution, theta: Tensor) -> LinearOperator:
    r"""Return :math:`v \mapsto \nabla_\theta \left(\nabla_\theta \bar D_{KL}(\pi_h \| \pi_\theta)^\top v\right)`.

    For distributions without a closed form: two backward passes through the KL divergence's own graph.

    :param here: :math:`\pi_h`, the action distributions at this :math:`\theta`, which stay fixed; batch shape ``(N,)``,
        without a graph.
    :param distribution: the same distributions with the graph from ``theta``.
    :param theta: the leaf ``(P,)``.
    """
    kl = kl_divergence(here, distribution).mean()
    if not kl.requires_grad:
        return torch.zeros_like
    (gradient,) = torch.autograd.grad(kl, theta, create_graph=True, allow_unused=True, materialize_grads=True)

    def product(v: Tensor) -> Tensor:
        (hessian_v,) = torch.autograd.grad(
            gradient, theta, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return hessian_v

    return product
