r"""Products with a Gauss-Newton matrix :math:`\frac1N J^\top M J`, without forming it.

:math:`J` is the Jacobian of a network's outputs with respect to its parameters, :math:`M` a small matrix for each row.
With the Fisher matrix of the action distribution for :math:`M` the product is that of the policy's Fisher matrix; with
the identity it is that of least squares, which fits a critic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import torch
from torch import Tensor

from trpo_ts.autodiff.fused_chains import linear_in_cotangents
from trpo_ts.distributions.fisher_metric import FisherMetric

__all__ = ["GaussNewton", "NoSecondDerivativeError"]


class NoSecondDerivativeError(RuntimeError):
    """An operation of the network cannot be differentiated twice."""


class _Way(Enum):
    """How J v is computed."""

    UNCHECKED = "by the graph, if it turns out to have second derivatives"
    EXACT = "by the graph"
    BY_DIFFERENCES = "by central differences"


class GaussNewton:
    r"""The products with :math:`J` and :math:`J^\top` of one graph, for some of its parameters.

    :math:`J^\top u` is built once as a function of :math:`u`, in which it is linear. Its derivative along :math:`v` is
    :math:`J v`, so that a product with :math:`J^\top M J` costs two backward passes and no forward pass.

    :param metric: the outputs :math:`z`, with their graph, and the product with :math:`M`; ``N`` is the outputs'
        first dimension.
    :param parameters: the leaves from which the outputs were computed.
    :param cotangents: some :math:`u` whose :math:`J^\top u` is wanted, shaped like the metric's outputs.
    :param outputs_at: the metric's outputs as a function of the parameters. With it, :math:`J v` is taken by central
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
        r"""Return :math:`\frac{1}{N} J^\top M J v`, one tensor per parameter.

        :param tangents: :math:`v`, one tensor per parameter.
        :raises NoSecondDerivativeError: where :math:`J v` cannot be computed.
        """
        metric = self._metric
        if not self._live:
            return self._pulled_back
        output_tangents = [torch.zeros_like(output) for output in metric.outputs]
        for i, tangent in zip(self._live, self._push_forward(tangents), strict=True):
            output_tangents[i] = tangent  # J v, in the outputs' shapes (N, ...)
        weighted = metric.multiply(output_tangents)  # M J v, row by row
        count = metric.outputs[0].shape[0]
        return self._pull_back([weighted[i] / count for i in self._live])  # J^T M J v / N, in the parameters' shapes

    def of_vector(self, v: Tensor) -> Tensor:
        """Return the product for a single parameter vector ``(P,)``."""
        return self.product([v])[0]

    def _push_forward(self, tangents: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return J v: the derivative of v^T (J^T u) with respect to u.

        :raises NoSecondDerivativeError: when neither the graph nor differences give it.
        """
        if self._way is _Way.BY_DIFFERENCES:
            return self._differences(tangents)
        reason: RuntimeError | None = None
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
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # torch has no type of its own for an operation without a second derivative
            reason = error
        else:
            if self._way is _Way.EXACT or self._agree(pushed, tangents, self._rounding):
                self._way = _Way.EXACT
                return pushed
        return self._checked_differences(tangents, reason)

    def _checked_differences(self, tangents: Sequence[Tensor], reason: RuntimeError | None) -> Sequence[Tensor]:
        """Return J v by differences, if they agree with J^T u.

        They do where an operation lacks a second derivative. They do not where something else is wrong, such as a
        tensor that was changed in place: then the error of the graph says what it is.
        """
        if self._outputs_at is None:
            raise NoSecondDerivativeError("an operation of the network cannot be differentiated twice") from reason
        differences = self._differences(tangents)
        if reason is not None and not self._agree(differences, tangents, self._rounding ** (2 / 3)):
            raise reason
        self._way = _Way.BY_DIFFERENCES
        return differences

    @property
    def _rounding(self) -> float:
        return torch.finfo(self._parameters[0].dtype).eps

    def _agree(self, pushed: Sequence[Tensor], tangents: Sequence[Tensor], rounding: float) -> bool:
        """Whether u^T (J v) = (J^T u)^T v up to rounding.

        An operation may drop its second derivative silently, or return NaN for it where the first is finite.
        """
        cotangents, pulled_back = ([t.detach() for t in tensors] for tensors in (self._cotangents, self._pulled_back))
        left, right = _dot(cotangents, pushed), _dot(pulled_back, tangents)
        if math.isfinite(right) and not math.isfinite(left):
            return False
        tiny = torch.finfo(tangents[0].dtype).tiny
        if abs(left - right) <= rounding**0.5 * abs(left) and abs(left) > tiny:
            return True
        # The larger of |u| |Jv| and |J^T u| |v|, squared. Where it underflows, products say nothing.
        scale = max(_dot(a, a) * _dot(b, b) for a, b in ((cotangents, pushed), (pulled_back, tangents)))
        return scale < tiny or not (left - right) * (left - right) > rounding * scale

    def _differences(self, tangents: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return J v by central differences of the outputs along v, to about eps^(2/3).

        They are (z(theta + width v) - z(theta - width v)) / (2 width); width v is about eps^(1/3) of theta's length.
        """
        assert self._outputs_at is not None
        length = _norm(tangents)
        if length == 0.0:
            return [torch.zeros_like(output) for output in self._outputs]
        size = _norm(p.detach() for p in self._parameters)
        width = torch.finfo(tangents[0].dtype).eps ** (1 / 3) * max(1.0, size) / length
        with torch.no_grad():
            moved = (
                self._outputs_at([p + sign * width * t for p, t in zip(self._parameters, tangents, strict=True)])
                for sign in (1.0, -1.0)
            )
            after, before = moved
            return [(after[i] - before[i]) / (2 * width) for i in self._live]

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
