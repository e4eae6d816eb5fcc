r"""The gradient :math:`g = \nabla_\theta L(\theta)` of the objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

from trpo_ts.autodiff.gauss_newton import GaussNewton
from trpo_ts.distributions.fisher_metric import FisherMetric

__all__ = ["are_independent", "gradient_with_products", "policy_gradient"]


def policy_gradient(objective: Tensor, theta: Tensor, *, keep_graph: bool = False) -> Tensor:
    r"""Return :math:`\nabla_\theta L`, shape ``(P,)``; zero where the objective does not depend on :math:`\theta`.

    :param objective: :math:`L(\theta)`, or :math:`N` times it, a scalar with its graph; the gradient is that of it.
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

    :param objective: :math:`L(\theta)`, or :math:`N` times it, computed from the metric's outputs and from nothing else
        that depends on :math:`\theta`; see :attr:`FisherMetric.determine_density`.
    :param metric: the action distribution's parameters :math:`z`, which :func:`are_independent`, and their Fisher
        matrix.
    :param theta: the leaf ``(P,)``.
    :param outputs_at: :math:`z` as a function of :math:`\theta`.
    """
    live = [output for output in metric.outputs if output.requires_grad]
    derivatives = iter(torch.autograd.grad(objective, live, allow_unused=True, materialize_grads=True))
    u = [next(derivatives) if output.requires_grad else torch.zeros_like(output) for output in metric.outputs]
    products = GaussNewton(metric, [theta], u, outputs_at)
    return products.pulled_back[0], products  # J^T u


def are_independent(outputs: Sequence[Tensor]) -> bool:
    """Whether no output is computed from another one, so that derivatives in each are partial derivatives.

    A standard deviation that is a function of the mean is not independent of it, nor are two parts of one ``chunk``.
    """
    live = [output for output in outputs if output.requires_grad]
    if len(live) < 2:
        return True
    own = {output.grad_fn for output in live}
    if None in own or len(own) < len(live):
        return False
    waiting = [node for output in live for node in _inputs_of(output.grad_fn)]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in own:
            return False
        if node not in seen:
            seen.add(node)
            waiting += _inputs_of(node)
    return True


def _inputs_of(node: Node | None) -> list[Node]:
    return [] if node is None else [before for before, _ in node.next_functions if before is not None]
