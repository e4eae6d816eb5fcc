r"""Products with the Fisher information matrix of a policy, without forming it.

The mean Fisher matrix over :math:`N` observations, with respect to the policy's parameters :math:`\theta`, is

.. math:: F = \frac{1}{N} \sum_n J_n^\top M(z_n) J_n, \qquad J_n = \partial z_n / \partial \theta,

where :math:`z_n` are the parameters of the action distribution and :math:`M` its closed-form Fisher matrix. It
equals the Hessian of the mean KL divergence at the point where both policies agree (arXiv:1502.05477,
appendix C). Operators are plain functions from a vector ``(P,)`` to a vector ``(P,)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from trpo_ts.natural_gradient.distributions import FisherMetric
from trpo_ts.natural_gradient.fused import linear_in_cotangents

__all__ = [
    "GaussNewton",
    "LinearOperator",
    "NoSecondDerivativeError",
    "damped",
    "kl_hessian_product",
    "weighted_sum",
]

LinearOperator = Callable[[Tensor], Tensor]


class NoSecondDerivativeError(RuntimeError):
    """An operation of the network cannot be differentiated twice."""


class _Way(Enum):
    """How J v is computed."""

    UNCHECKED = "by the graph, if it turns out to have second derivatives"
    EXACT = "by the graph"
    BY_DIFFERENCES = "by central differences"


class GaussNewton:
    r"""The products with :math:`J` and :math:`J^\top` of one graph, for some of its tensors.

    :math:`J^\top u` is built once as a function of :math:`u`, in which it is linear. Its derivative along :math:`v` is
    :math:`J v`, so that a product with :math:`J^\top M J` costs two backward passes and no forward pass.

    :param metric: the outputs :math:`z`, with their graph, and the product with :math:`M`; ``N`` is the outputs'
        first dimension.
    :param parameters: the leaves from which the outputs were computed.
    :param cotangents: some :math:`u` whose :math:`J^\top u` is wanted, shaped like the metric's outputs.
    :param outputs_at: the metric's outputs as a function of the tensors. With it, :math:`J v` is taken by central
        differences where an operation in the graph has no second derivative.
    """

    def __init__(
        self,
        metric: FisherMetric,
        parameters: Sequence[Tensor],
        cotangents: Sequence[Tensor] | None = None,
        outputs_at: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None,
    ) -> None:
        self._metric, self._parameters, self._outputs_at = metric, parameters, outputs_at
        self._live = [i for i, output in enumerate(metric.outputs) if output.requires_grad]
        self._outputs = [metric.outputs[i] for i in self._live]
        given = [torch.ones_like(output) for output in metric.outputs] if cotangents is None else cotangents
        self._cotangents = [given[i].detach().requires_grad_(True) for i in self._live]
        self._way = _Way.UNCHECKED
        self._pulled_back = self._pull_back(self._cotangents, create_graph=True)

    @property
    def pulled_back(self) -> tuple[Tensor, ...]:
        r"""The :math:`J^\top u` of the given cotangents, one tensor per parameter."""
        return tuple(tensor.detach() for tensor in self._pulled_back)

    def product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        r"""Return :math:`\frac{1}{N} J^\top M J v`, one tensor per parameter."""
        metric = self._metric
        if not self._live:
            return self._pulled_back
        output_tangents = [torch.zeros_like(output) for output in metric.outputs]
        for i, tangent in zip(self._live, self._push_forward(tangents), strict=True):
            output_tangents[i] = tangent  # J v
        weighted = metric.multiply(output_tangents)  # M J v
        count = metric.outputs[0].shape[0]
        return self._pull_back([weighted[i] / count for i in self._live])  # J^T M J v

    def _push_forward(self, tangents: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return J v.

        :raises NoSecondDerivativeError: when neither way is open.
        """
        if self._way is _Way.BY_DIFFERENCES:
            return self._differences(tangents)
        try:
            with linear_in_cotangents():
                pushed = torch.autograd.grad(
                    self._pulled_back,
                    self._cotangents,
                    tangents,
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
        except RuntimeError as error:
            if not any(words in str(error) for words in ("not implemented", "not supported")):
                raise
        else:
            if self._way is _Way.EXACT or self._agree(pushed, tangents):
                self._way = _Way.EXACT
                return pushed
        if self._outputs_at is None:
            raise NoSecondDerivativeError("an operation of the network cannot be differentiated twice")
        self._way = _Way.BY_DIFFERENCES
        return self._differences(tangents)

    def _agree(self, pushed: Sequence[Tensor], tangents: Sequence[Tensor]) -> bool:
        """Whether u^T (J v) = (J^T u)^T v, up to rounding: an operation may drop its second derivative silently."""
        cotangents, pulled_back = ([t.detach() for t in tensors] for tensors in (self._cotangents, self._pulled_back))
        left, right = _dot(cotangents, pushed), _dot(pulled_back, tangents)
        numbers = torch.finfo(tangents[0].dtype)
        if abs(left - right) <= numbers.eps**0.5 * abs(left) and abs(left) > numbers.tiny:
            return True
        # The larger of |u| |Jv| and |J^T u| |v|, squared. Where it underflows, products say nothing.
        scale = max(_dot(a, a) * _dot(b, b) for a, b in ((cotangents, pushed), (pulled_back, tangents)))
        return scale < numbers.tiny or not (left - right) * (left - right) > numbers.eps * scale

    def _differences(self, tangents: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return J v by central differences, with an error of order eps^(2/3)."""
        assert self._outputs_at is not None
        length = _norm(tangents)
        if length == 0.0:
            return [torch.zeros_like(output) for output in self._outputs]
        size = _norm(p.detach() for p in self._parameters)
        h = torch.finfo(tangents[0].dtype).eps ** (1 / 3) * max(1.0, size) / length
        with torch.no_grad():
            moved = (
                self._outputs_at([p + sign * h * t for p, t in zip(self._parameters, tangents, strict=True)])
                for sign in (1.0, -1.0)
            )
            after, before = moved
            return [(after[i] - before[i]) / (2 * h) for i in self._live]

    def of_vector(self, v: Tensor) -> Tensor:
        """Return the product for a single parameter vector ``(P,)``."""
        return self.product([v])[0]

    def _pull_back(self, cotangents: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
        if not self._live:
            return tuple(torch.zeros_like(parameter) for parameter in self._parameters)
        return torch.autograd.grad(
            self._outputs,
            self._parameters,
            cotangents,
            create_graph=create_graph,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return sum(float(a.reshape(-1).dot(b.reshape(-1))) for a, b in zip(left, right, strict=True))


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def kl_hessian_product(behaviour: Distribution, policy: Distribution, theta: Tensor) -> LinearOperator:
    r"""Return :math:`v \mapsto \nabla_\theta \left(\nabla_\theta \bar D_{KL}(\pi_{old} \| \pi_\theta)^\top v\right)`.

    The way for distributions without a closed form: two backward passes through the KL divergence's own graph.

    :param behaviour: the policy's distributions, batch shape ``(N,)``, as constants.
    :param policy: the same distributions as functions of ``theta``.
    :param theta: the leaf ``(P,)``.
    """
    kl = kl_divergence(behaviour, policy).mean()
    if not kl.requires_grad:
        return torch.zeros_like
    (gradient,) = torch.autograd.grad(kl, theta, create_graph=True, allow_unused=True, materialize_grads=True)

    def product(v: Tensor) -> Tensor:
        (hessian_v,) = torch.autograd.grad(
            gradient, theta, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return hessian_v

    return product


def damped(operator: LinearOperator, damping: float) -> LinearOperator:
    r"""Return :math:`v \mapsto A v + c v`: Tikhonov damping with coefficient :math:`c`."""
    return lambda v: operator(v) + damping * v


def weighted_sum(operators: Sequence[LinearOperator], weights: Sequence[float]) -> LinearOperator:
    r"""Return :math:`v \mapsto \sum_i w_i A_i v`, the operator of a batch from those of its parts."""
    if len(operators) == 1 and weights[0] == 1.0:
        return operators[0]

    def product(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for operator, weight in zip(operators, weights, strict=True):
            total += weight * operator(v)
        return total

    return product
