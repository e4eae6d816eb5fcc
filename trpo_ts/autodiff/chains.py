r"""Chains of linear layers and activations, and the products with their Jacobian, written out.

Most policies and critics are such chains. From the input :math:`y_0` each link :math:`l = 0, 1, \dots` computes
:math:`y_{l+1} = \psi_l(y_l W_l^\top + b_l)`. The two products that a second-order method needs are short:

.. math::
    J v: \quad &\dot y_{l+1} = \psi_l' \odot (y_l \dot W_l^\top + \dot b_l + \dot y_l W_l^\top), \\
    J^\top u: \quad &h_l = \psi_l' \odot (h_{l+1} W_{l+1}), \quad
    \bar W_l = h_l^\top y_l, \quad \bar b_l = \textstyle\sum_n h_{ln}.

A dot marks a tangent: :math:`v` consists of :math:`\dot W_l` and :math:`\dot b_l`. A bar marks a derivative:
:math:`J^\top u` consists of :math:`\bar W_l` and :math:`\bar b_l`. :math:`h_l` is the derivative in the linear layer's
output, before the activation; in the last link :math:`u` replaces :math:`h_{l+1} W_{l+1}`. Written out, the products
need no graph from layer to layer. At the sizes of reinforcement learning, where an operation takes about ten
microseconds, that graph is much of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trpo_ts.autodiff.matrix_products import affine, matmul
from trpo_ts.autodiff.watched_modules import has_forward_of

__all__ = ["ChainPass", "Link", "links_of", "weight_gradient"]


@dataclass(frozen=True)
class _Activation:
    """An elementwise function whose derivative is a function of its value."""

    name: str
    times_derivative: Callable[[Tensor, Tensor], Tensor]


def _relu_derivative(tangent: Tensor, value: Tensor) -> Tensor:
    product: Tensor = torch.ops.aten.threshold_backward(tangent, value, 0.0)
    return product


_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.Tanh: _Activation("tanh", torch.ops.aten.tanh_backward),
    nn.Sigmoid: _Activation("sigmoid", torch.ops.aten.sigmoid_backward),
    nn.ReLU: _Activation("relu", _relu_derivative),
}


@dataclass(frozen=True)
class Link:
    """A linear layer and the activation after it, if there is one."""

    linear: nn.Linear
    activation: nn.Module | None

    def value(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what the link makes of ``x``, without a graph."""
        name = "none" if self.activation is None else _ACTIVATIONS[type(self.activation)].name
        return affine(x, weight, bias, name)

    def times_derivative(self, tangent: Tensor, value: Tensor) -> Tensor:
        """Return a tangent times the activation's derivative, elementwise."""
        if self.activation is None:
            return tangent
        return _ACTIVATIONS[type(self.activation)].times_derivative(tangent, value)


def links_of(sequential: nn.Sequential) -> list[Link] | None:
    """Return the chain that a ``Sequential`` is; None where it is anything else, or a single layer."""
    layers = list(sequential)
    links: list[Link] = []
    for i, layer in enumerate(layers):
        following = layers[i + 1] if i + 1 < len(layers) else None
        if type(layer) is nn.Linear:
            links.append(Link(layer, following if type(following) in _ACTIVATIONS else None))
        elif type(layer) not in _ACTIVATIONS or i == 0 or type(layers[i - 1]) is not nn.Linear:
            return None
    return links if len(layers) > 1 and all(map(_is_plain, layers)) else None


def _is_plain(layer: nn.Module) -> bool:
    """Whether a call of the layer is torch's own forward pass on plain parameters, and nothing else."""
    parameters = layer._parameters.values()
    return has_forward_of(type(layer), layer) and all(p is None or type(p.data) is Tensor for p in parameters)


class ChainPass:
    r"""A chain's values at one input, without a graph, and the products with its Jacobian there.

    :attr:`values` holds :math:`y_0, \dots, y_L`: the input and what each link returned.

    :param links: the layers.
    :param x: the input, shape ``(N, inputs)``.
    """

    def __init__(self, links: Sequence[Link], x: Tensor) -> None:
        self.links = links
        self.weights: list[Tensor] = [link.linear.weight for link in links]
        self.biases: list[Tensor | None] = [link.linear.bias for link in links]
        self.values = [x]
        with torch.no_grad():
            for link, weight, bias in zip(links, self.weights, self.biases, strict=True):
                self.values.append(link.value(self.values[-1], weight, bias))
        # The products read the values. Of these a user can reach, and change in place, the input and the output; the
        # output matters where an activation's derivative is a function of it.
        self._seen = [x] if links[-1].activation is None else [x, self.values[-1]]
        self._versions = [tensor._version for tensor in self._seen]

    def check_unmodified(self) -> None:
        """Check that nobody has changed input or output in place, as torch does where a derivative needs them.

        :raises RuntimeError: when one was modified in place.
        """
        if [tensor._version for tensor in self._seen] != self._versions:
            raise RuntimeError(
                "the input or the output of a chain of layers, a tensor needed for gradient computation, has been "
                "modified by an inplace operation; write h = h + f(h) instead of h += f(h)"
            )

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """What the output depends on: the input, the weights, the biases."""
        return self.values[0], *self.weights, *self.biases

    def of_rows(self, rows: Tensor) -> ChainPass:
        """Return the pass of some of the rows, given by their indices."""
        part = copy(self)
        part.values = [value.detach()[rows] for value in self.values]
        return part

    def derivatives(self, cotangent: Tensor) -> Iterator[tuple[int, Tensor]]:
        r"""Yield, from the last link to the first, its index and :math:`h_l`, the derivative in its linear output.

        :param cotangent: the derivative :math:`u` in the chain's output, shape ``(N, outputs)``.
        """
        for i in reversed(range(len(self.links))):
            # h_l = psi_l'(y_{l+1}) * (h_{l+1} W_{l+1}), shape (N, width of link l); in the last link u is that product.
            cotangent = self.links[i].times_derivative(cotangent, self.values[i + 1])
            yield i, cotangent
            if i > 0:
                cotangent = matmul(cotangent, self.weights[i])  # (N, outputs) (outputs, inputs)

    def pull_back(self, cotangent: Tensor, needed: Sequence[bool]) -> list[Tensor | None]:
        r"""Return :math:`J^\top u` for each of :attr:`inputs`, None where it is not needed.

        :param cotangent: :math:`u`, shape ``(N, outputs)``.
        :param needed: for each of :attr:`inputs`, whether its part is wanted.
        """
        gradients: list[Tensor | None] = [None] * len(needed)
        count = len(self.links)
        for i, derivative in self.derivatives(cotangent):
            if needed[1 + i]:
                gradients[1 + i] = weight_gradient(derivative, self.values[i])  # h_l^T y_l
            if needed[1 + count + i]:
                gradients[1 + count + i] = derivative.sum(0)  # sum_n h_ln
            if i == 0 and needed[0]:
                gradients[0] = matmul(derivative, self.weights[0])  # h_0 W_0
        return gradients

    def push_forward(self, tangents: Sequence[Tensor | None]) -> Tensor:
        r"""Return :math:`J v`, shape ``(N, outputs)``, for tangents of each of :attr:`inputs`, None meaning zero."""
        count = len(self.links)
        tangent = tangents[0]  # dy_0, (N, inputs)
        for i, link in enumerate(self.links):
            weight, bias = tangents[1 + i], tangents[1 + count + i]
            # The product rule on y_l W_l^T + b_l: first y_l dW_l^T + db_l, then dy_l W_l^T.
            through = torch.zeros_like(self.values[i + 1]) if weight is None else affine(self.values[i], weight, bias)
            if weight is None and bias is not None:
                through += bias
            if tangent is not None:
                through += affine(tangent, self.weights[i])
            tangent = link.times_derivative(through, self.values[i + 1])  # dy_{l+1}
        assert tangent is not None
        return tangent

    def again(self, inputs: Sequence[Tensor | None]) -> Tensor:
        """Return the output from other :attr:`inputs`, by the layers' own operations, with their graph."""
        count = len(self.links)
        output = inputs[0]
        assert output is not None
        for i, link in enumerate(self.links):
            weight = inputs[1 + i]
            assert weight is not None
            output = F.linear(output, weight, inputs[1 + count + i])
            output = output if link.activation is None else link.activation(output)
        return output


def weight_gradient(derivative: Tensor, x: Tensor) -> Tensor:
    """Return h^T y, shape ``(outputs, inputs)``, from ``(N, outputs)`` and ``(N, inputs)``.

    The library's product is faster with the narrower factor on the left.
    """
    if x.shape[1] < derivative.shape[1]:
        return matmul(x.mT, derivative).mT
    return matmul(derivative.mT, x)
