"""What flows through the linear and convolutional layers of a network while it is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from trpo_ts.autodiff.chains import ChainPass
from trpo_ts.autodiff.fused_chains import observed_chains
from trpo_ts.autodiff.module_tree import named_modules_of
from trpo_ts.autodiff.watched_modules import computes_as

__all__ = ["LayerCall", "LayerPairs", "layer_derivatives", "recorded_layers"]


@dataclass(frozen=True)
class LayerPairs:
    r"""A layer's inputs :math:`y` and the derivatives :math:`h` in its outputs, in pairs.

    A pair gives the derivative in the weights, :math:`h y^\top`. A linear layer that is called once has one pair for
    each row of the rollout; a convolution has one for each row and position, since it multiplies one patch at each.

    :param name: the prefix of the layer's parameter names, with its dot; empty for a network that is itself a layer.
    :param inputs: what the weight matrix was multiplied with, shape ``(pairs, inputs)``.
    :param derivatives: some function's derivatives with respect to the products, shape ``(pairs, outputs)``.
    """

    name: str
    inputs: Tensor
    derivatives: Tensor

    def of_rows(self, rows: Tensor) -> LayerPairs:
        """Return the pairs of some rows, given by their indices, where each row has one."""
        return LayerPairs(self.name, self.inputs[rows], self.derivatives[rows])

    def to(self, dtype: torch.dtype) -> LayerPairs:
        """Return the pairs in another dtype."""
        return LayerPairs(self.name, self.inputs.to(dtype), self.derivatives.to(dtype))


class LayerCall(Protocol):
    """One call of a layer, or of a chain of layers at once."""

    @property
    def edge(self) -> GradientEdge:
        """What was returned, as a place in the graph: one that in-place operations on it leave where it is."""

    @property
    def shape(self) -> torch.Size:
        """The shape of what was returned."""

    def pairs(self, derivative: Tensor, rows: Tensor | None = None) -> list[LayerPairs]:
        """Return each layer's pairs, from a function's derivative with respect to the output.

        :param derivative: shaped like the output.
        :param rows: the indices in the first dimension whose pairs are wanted; None means all.
        """


@dataclass(frozen=True)
class _SingleCall:
    name: str
    layer: nn.Linear | nn.Conv2d
    input: Tensor
    edge: GradientEdge
    shape: torch.Size

    def pairs(self, derivative: Tensor, rows: Tensor | None = None) -> list[LayerPairs]:
        x = self.input
        if rows is not None:
            x, derivative = x[rows], derivative[rows]
        if isinstance(self.layer, nn.Linear):
            return [LayerPairs(self.name, x.reshape(-1, x.shape[-1]), derivative.reshape(-1, derivative.shape[-1]))]
        # A convolution is a linear layer on patches. F.unfold returns them as (N, inputs, positions); the derivative is
        # (N, outputs, height, width). Both become one pair for each row and position, in the same order.
        conv = self.layer
        padding = conv._reversed_padding_repeated_twice
        padded = F.pad(x, padding, "constant" if conv.padding_mode == "zeros" else conv.padding_mode)
        patches = F.unfold(padded, conv.kernel_size, dilation=conv.dilation, stride=conv.stride)
        inputs = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        return [LayerPairs(self.name, inputs, derivative.flatten(2).transpose(1, 2).reshape(-1, derivative.shape[1]))]


@dataclass(frozen=True)
class _ChainCall:
    names: dict[nn.Module, str]
    chain: ChainPass
    edge: GradientEdge
    shape: torch.Size

    def pairs(self, derivative: Tensor, rows: Tensor | None = None) -> list[LayerPairs]:
        chain = self.chain
        if rows is not None:
            chain, derivative = chain.of_rows(rows), derivative[rows]
        with torch.no_grad():
            derivatives = dict(chain.derivatives(derivative))
        return [
            LayerPairs(self.names[link.linear], chain.values[i].detach(), derivatives[i])
            for i, link in enumerate(chain.links)
        ]


def layer_derivatives(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], calls: Sequence[LayerCall]
) -> list[Tensor]:
    r"""Return the derivatives of :math:`\sum_i u_i^\top z_i` with respect to what each call returned; the graph stays.

    :param outputs: the tensors :math:`z_i`, with the graph of the calls.
    :param cotangents: the :math:`u_i`.
    """
    edges = [call.edge for call in calls]
    found = torch.autograd.grad(outputs, edges, cotangents, retain_graph=True, allow_unused=True)
    return [
        cotangents[0].new_zeros(call.shape) if derivative is None else derivative
        for call, derivative in zip(calls, found, strict=True)
    ]


def _is_linear(module: nn.Module) -> bool:
    """Whether the output is the product with the weights: not so where the forward pass is another one."""
    return isinstance(module, nn.Linear) and computes_as(nn.Linear, module) and module.in_features > 0


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and computes_as(nn.Conv2d, module)


@contextmanager
def recorded_layers(network: nn.Module) -> Iterator[list[LayerCall]]:
    """Record the calls of linear layers and of ungrouped two-dimensional convolutions on batches, in their order."""
    calls: list[LayerCall] = []
    names: dict[nn.Module, str] = {
        module: f"{name}." if name else ""
        for name, module in named_modules_of(network)
        if _is_linear(module) or (_is_convolution(module) and module.groups == 1)
    }

    def record(layer: Any, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):  # a hook of the user's made something else of it
            return
        batched = output.dim() == 4 if isinstance(layer, nn.Conv2d) else True
        if args and output.requires_grad and batched:
            calls.append(_SingleCall(names[layer], layer, args[0].detach(), get_gradient_edge(output), output.shape))

    def record_chain(chain: ChainPass, output: Tensor) -> None:
        if all(link.linear in names for link in chain.links):  # else it is another network's, or without inputs
            calls.append(_ChainCall(names, chain, get_gradient_edge(output), output.shape))

    handles = [layer.register_forward_hook(record) for layer in names]
    try:
        with observed_chains(record_chain):
            yield calls
    finally:
        for handle in handles:
            handle.remove()
