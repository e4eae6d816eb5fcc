r"""The gradient :math:`g = \nabla_\theta L(\theta)` of the objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trpo_ts.autodiff.gauss_newton import GaussNewton
from trpo_ts.distributions.fisher_metric import FisherMetric

__all__ = ["gradient_with_products", "policy_gradient"]


def policy_gradient(objective: Tensor, theta: Tensor, *, keep_graph: bool = False) -> Tensor:
    r"""Return :math:`\nabla_\theta L`, shape ``(P,)``; zero where the objective does not depend on :math:`\theta`.

    :param objective: :math:`L(\theta)`, a scalar with its graph.
    :param theta: the leaf ``(P,)``.
    :param keep_graph: whether the graph is needed again.
    """
    if not objective.requires_grad:
        return torch.zeros_like(theta)
    (gradient,) = torch.autograd.grad(
        objective, theta, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )
    return gradient


def gradient_with_products(
    objective: Tensor,
    metric: FisherMetric,
    theta: Tensor,
    outputs_at: Callable[[Sequence[Tensor]], Sequence[Tensor]],
) -> tuple[Tensor, GaussNewton]:
    r"""Return :math:`\nabla_\theta L` and the products with the Fisher matrix, from one backward pass.

    By the chain rule :math:`g = J^\top u` with :math:`u = \partial L / \partial z`, the derivatives in the action
    distribution's own parameters :math:`z`. A product with the Fisher matrix begins with the same :math:`J^\top u` as a
    function of :math:`u`, so it is built at this :math:`u` and gives the gradient too.

    :param objective: :math:`L(\theta)`, computed from the metric's outputs and from nothing else that depends on
        :math:`\theta`; see :attr:`FisherMetric.determine_density`.
    :param metric: the action distribution's parameters :math:`z` and their Fisher matrix.
    :param theta: the leaf ``(P,)``.
    :param outputs_at: :math:`z` as a function of :math:`\theta`.
    """
    live = [output for output in metric.outputs if output.requires_grad]
    derivatives = iter(torch.autograd.grad(objective, live, allow_unused=True, materialize_grads=True))
    u = [next(derivatives) if output.requires_grad else torch.zeros_like(output) for output in metric.outputs]
    products = GaussNewton(metric, [theta], u, outputs_at)
    return products.pulled_back[0], products  # J^T u
