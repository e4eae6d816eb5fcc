r"""Per-sample gradients: those of a network with one output per row, for all rows at once, without forming them.

Where every parameter belongs to a linear layer that meets each row once, the gradient of the row's output is

.. math:: \nabla_{W_l} V(s_n) = h_{ln}\, y_{ln}^\top, \qquad \nabla_{b_l} V(s_n) = h_{ln},

with the layer's input :math:`y` and the derivative :math:`h` with respect to its output (Goodfellow 2015,
arXiv:1510.01799). One backward pass gives all of them, and the products with the Jacobian are

.. math::
    (J v)_n = \sum_l h_{ln}^\top (\dot W_l y_{ln} + \dot b_l), \qquad
    (J^\top u)_{W_l} = \sum_n u_n\, h_{ln}\, y_{ln}^\top, \quad (J^\top u)_{b_l} = \sum_n u_n\, h_{ln}:

one matrix product per layer each, where going through the layers one after another takes two. :math:`v` consists of
:math:`\dot W_l` and :math:`\dot b_l`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from trpo_ts.autodiff.chains import weight_gradient
from trpo_ts.autodiff.flat_parameters import ForwardPass, unflattened
from trpo_ts.autodiff.layer_calls import LayerPairs, layer_derivatives
from trpo_ts.autodiff.matrix_products import affine

__all__ = ["PerSampleGradients", "per_sample_gradients"]


@dataclass(frozen=True)
class PerSampleGradients:
    r"""The Jacobian :math:`J` of the outputs, shape ``(N, P)``, as outer products.

    :param pairs: each layer's inputs and derivatives, one pair for each row.
    :param views: the parameters by name, in the order of the parameter vector.
    """

    pairs: Sequence[LayerPairs]
    views: Mapping[str, Tensor]

    def times(self, v: Tensor) -> Tensor:
        """Return J v, shape ``(N,)``, for v of shape ``(P,)``."""
        tangents = unflattened(v, self.views)
        total = v.new_zeros(len(self.pairs[0].inputs))
        for layer in self.pairs:
            change = affine(layer.inputs, tangents[f"{layer.name}weight"], tangents.get(f"{layer.name}bias"))
            total += change.mul_(layer.derivatives).sum(1)
        return total

    def transposed_times(self, u: Tensor) -> Tensor:
        """Return J^T u, shape ``(P,)``, for u of shape ``(N,)``."""
        found = {}
        for layer in self.pairs:
            found[f"{layer.name}weight"] = weight_gradient(layer.derivatives * u.unsqueeze(1), layer.inputs)
            if f"{layer.name}bias" in self.views:
                found[f"{layer.name}bias"] = layer.derivatives.mT.mv(u)
        return torch.cat([found[name].reshape(-1) for name in self.views])


def per_sample_gradients(outputs: Tensor, forward_pass: ForwardPass) -> PerSampleGradients | None:
    """Return the gradients of one output per row; None where they are not such outer products.

    They are where the network is a single path of linear layers, elementwise functions and views, which the graph
    tells, and no parameter is found outside of a layer, or in two.

    :param outputs: shape ``(N,)``, computed from the forward pass's output.
    :param forward_pass: the network's evaluation.
    """
    calls = forward_pass.layer_calls
    if not all(len(call.shape) == 2 and call.shape[0] == len(outputs) for call in calls):
        return None
    if not calls or _layers_on_path(outputs) != [call.edge.node for call in reversed(calls)]:
        return None
    derivatives = layer_derivatives([outputs], [torch.ones_like(outputs)], calls)
    layers = [pairs for call, derivative in zip(calls, derivatives, strict=True) for pairs in call.pairs(derivative)]
    weights = [f"{layer.name}weight" for layer in layers]
    known = {*weights, *(f"{layer.name}bias" for layer in layers)}
    views = forward_pass.views
    if len(set(weights)) < len(layers) or not set(weights) <= views.keys() or not views.keys() <= known:
        return None
    return PerSampleGradients(layers, views)


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
