"""What flows through the linear and convolutional layers of a network while it is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LayerCall", "recorded_layers"]


@dataclass(frozen=True)
class LayerCall:
    """One evaluation of a linear or convolutional layer.

    :param name: the layer's name in the network with the dot that its parameters' names go on with; empty for a
        network that is a layer itself.
    :param layer: the layer.
    :param input: its input, detached.
    :param output: its output, with the graph.
    """

    name: str
    layer: nn.Linear | nn.Conv2d
    input: Tensor
    output: Tensor

    def input_rows(self) -> Tensor:
        """Return the vectors that the weight matrix multiplies, shape ``(rows, inputs)``.

        A convolution multiplies one patch for each sample and position.
        """
        if isinstance(self.layer, nn.Linear):
            return self.input.reshape(-1, self.input.shape[-1])
        conv = self.layer
        padding = conv._reversed_padding_repeated_twice
        padded = F.pad(self.input, padding, "constant" if conv.padding_mode == "zeros" else conv.padding_mode)
        patches = F.unfold(padded, conv.kernel_size, dilation=conv.dilation, stride=conv.stride)
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])

    def output_rows(self, output_tangent: Tensor) -> Tensor:
        """Return a tensor of the output's shape as ``(rows, outputs)``, in the order of :meth:`input_rows`."""
        if isinstance(self.layer, nn.Linear):
            return output_tangent.reshape(-1, output_tangent.shape[-1])
        return output_tangent.flatten(2).transpose(1, 2).reshape(-1, output_tangent.shape[1])


@contextmanager
def recorded_layers(network: nn.Module) -> Iterator[list[LayerCall]]:
    """Record the calls of all linear and ungrouped two-dimensional convolutional layers, in their order."""
    calls: list[LayerCall] = []

    def record(name: str) -> Any:
        def hook(layer: Any, args: tuple[Any, ...], output: Tensor) -> None:
            if args and output.requires_grad:
                calls.append(LayerCall(name, layer, args[0].detach(), output))

        return hook

    handles = [
        module.register_forward_hook(record(f"{name}." if name else ""))
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
