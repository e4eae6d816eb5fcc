r"""The gradients of a network with one output per sample, for all samples at once and without their being formed.

Where every parameter belongs to a linear layer that meets each sample once, the gradient of the sample's output is

.. math:: \nabla_{W_l} V(s_n) = g_{ln}\, a_{ln}^\top, \qquad \nabla_{b_l} V(s_n) = g_{ln},

with the layer's input :math:`a` and the derivative :math:`g` with respect to its output (Goodfellow 2015,
arXiv:1510.01799). One backward pass gives all of them, and the products with the Jacobian are

.. math::
    (J v)_n = \sum_l g_{ln}^\top (V_l a_{ln} + v_l), \qquad
    (J^\top u)_{W_l} = \sum_n u_n\, g_{ln}\, a_{ln}^\top, \quad (J^\top u)_{b_l} = \sum_n u_n\, g_{ln}:

one matrix product per layer each, where going through the layers one after another takes two. :math:`V_l` and
:math:`v_l` are the parts of :math:`v` for :math:`W_l` and :math:`b_l`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from trpo_ts.autodiff.chains import weight_gradient
from trpo_ts.autodiff.flat_parameters import Trace, unflattened
from trpo_ts.autodiff.layer_calls import LayerPairs, layer_derivatives
from trpo_ts.autodiff.matrix_products import affine

__all__ = ["PerSampleGradients", "per_sample_gradients"]


@dataclass(frozen=True)
class PerSampleGradients:
    r"""The Jacobian :math:`J` of the outputs, shape ``(N, P)``, as outer products.

    :param rows: each layer's inputs and derivatives, in the order of the parameter vector.
    :param parts: the parameters by name, in that order.
    """

    rows: Sequence[LayerPairs]
    parts: Mapping[str, Tensor]

    def times(self, v: Tensor) -> Tensor:
        """Return J v, shape ``(N,)``, for v of shape ``(P,)``."""
        tangents = unflattened(v, self.parts)
        total = v.new_zeros(len(self.rows[0].inputs))
        for row in self.rows:
            change = affine(row.inputs, tangents[f"{row.name}weight"], tangents.get(f"{row.name}bias"))
            total += change.mul_(row.derivatives).sum(1)
        return total

    def transposed_times(self, u: Tensor) -> Tensor:
        """Return J^T u, shape ``(P,)``, for u of shape ``(N,)``."""
        found = {}
        for row in self.rows:
            found[f"{row.name}weight"] = weight_gradient(row.derivatives * u.unsqueeze(1), row.inputs)
            if f"{row.name}bias" in self.parts:
                found[f"{row.name}bias"] = row.derivatives.mT.mv(u)
        return torch.cat([found[name].reshape(-1) for name in self.parts])


def per_sample_gradients(outputs: Tensor, trace: Trace) -> PerSampleGradients | None:
    """Return the gradients of one output per sample; None where they are not such outer products.

    They are where the network is a single path of linear layers, elementwise functions and views, which the graph
    tells, and no parameter is found outside of a layer, or in two.

    :param outputs: shape ``(N,)``, computed from the trace's output.
    :param trace: the network's evaluation.
    """
    calls = trace.layers
    if not all(len(call.shape) == 2 and call.shape[0] == len(outputs) for call in calls):
        return None
    if not calls or _layers_on_path(outputs) != [call.edge.node for call in reversed(calls)]:
        return None
    derivatives = layer_derivatives([outputs], [torch.ones_like(outputs)], calls)
    rows = [row for call, derivative in zip(calls, derivatives, strict=True) for row in call.rows(derivative)]
    weights = [f"{row.name}weight" for row in rows]
    known = {*weights, *(f"{row.name}bias" for row in rows)}
    if len(set(weights)) < len(rows) or not set(weights) <= trace.parts.keys() or not trace.parts.keys() <= known:
        return None
    return PerSampleGradients(rows, trace.parts)


_LAYERS = {"_ChainBackward": 0, "AddmmBackward": 1, "MmBackward": 0}
"""The graph's nodes that are layers, and which of their inputs the layer's own input is."""

_ROW_BY_ROW = {
    *("ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "AliasBackward"),
    *("SqueezeBackward", "UnsqueezeBackward"),
    *("TanhBackward", "ReluBackward", "SigmoidBackward", "EluBackward", "SiluBackward", "GeluBackward"),
    *("LeakyReluBackward", "SoftplusBackward", "MishBackward", "HardtanhBackward"),
}
"""Nodes of functions of one tensor that keep to a row, given that there are as many rows before and after them."""


def _layers_on_path(outputs: Tensor) -> list[Node]:
    """Return the layers on the path from the outputs to the input; none where there is more than such a path."""
    found, node = [], outputs.grad_fn
    while node is not None:
        name = node.name().rstrip("0123456789")  # the number tells overloads apart
        if name in _LAYERS:
            found.append(node)
            node = node.next_functions[_LAYERS[name]][0]
        elif name in _ROW_BY_ROW:
            node = node.next_functions[0][0]
        else:
            return []
    return found
