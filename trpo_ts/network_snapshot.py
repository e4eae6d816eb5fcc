"""A copy of all numbers in networks, from which they are put back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trpo_ts.autodiff.module_tree import buffers_of, parameters_of

__all__ = ["NetworkSnapshot"]


class NetworkSnapshot:
    """The parameters and buffers of modules, copied.

    :param modules: all modules of the networks.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._tensors = [*parameters_of(modules), *buffers_of(modules)]
        # A network that assigns to its buffer, as to any attribute, has another tensor there afterwards.
        self._buffers = [
            (module, dict(module._buffers))
            for module in modules
            # A script's buffers are not Python's, and keep their memory.
            if module._buffers and not isinstance(module, torch.jit.ScriptModule)
        ]
        self._values = [tensor.detach().clone() for tensor in self._tensors]

    def restore(self) -> None:
        """Put everything back."""
        for module, buffers in self._buffers:
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for tensor, value in zip(self._tensors, self._values, strict=True):
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
