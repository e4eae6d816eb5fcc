"""Output layers on a trunk."""

from __future__ import annotations

from typing import Any

from tianshou.utils.net.common import AbstractDiscreteActor, ModuleWithVectorOutput
from torch import Tensor

from trpo_ts.networks.orthogonal_layers import orthogonal_linear

__all__ = ["HEAD_GAIN", "LinearActor"]

HEAD_GAIN = 0.01
"""The gain of a policy's output layer; see :func:`trpo_ts.networks.orthogonal_layers.orthogonal_linear`."""


class LinearActor(AbstractDiscreteActor):
    """A trunk and a linear layer: observations to the numbers that a distribution is made of, such as logits.

    :param trunk: the network from observations to features.
    :param outputs: how many numbers an observation is mapped to.
    """

    def __init__(self, trunk: ModuleWithVectorOutput, outputs: int) -> None:
        super().__init__(outputs)
        self.preprocess = trunk
        self.last = orthogonal_linear(trunk.get_output_dim(), outputs, HEAD_GAIN)

    def get_preprocess_net(self) -> ModuleWithVectorOutput:
        """Return the trunk."""
        return self.preprocess

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs, shape ``(N, outputs)``, and the trunk's state."""
        features, state = self.preprocess(obs, state=state, info=info)
        return self.last(features), state
