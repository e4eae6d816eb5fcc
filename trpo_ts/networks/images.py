"""Images: a convolutional network of a size that fits."""

from __future__ import annotations

import itertools

from gymnasium import spaces
from torch import Tensor, nn

from trpo_ts.envs.image_shapes import LEAST_SIDE, channel_axis, image_sides
from trpo_ts.networks.numbers import Encoder, UnitScale
from trpo_ts.networks.orthogonal_layers import orthogonal_convolution

__all__ = ["ImageEncoder"]

_LAYERS_FROM_SIDE = {
    36: ((32, 8, 4), (64, 4, 2), (64, 3, 1)),  # Mnih et al. 2015, Human-level control, doi:10.1038/nature14236
    12: ((32, 4, 2), (64, 3, 2)),
    LEAST_SIDE: ((16, 3, 1),),  # Young and Tian 2019, MinAtar, arXiv:1903.03176
}
"""Channels, kernel and stride of each convolution, by the shortest side that they are for."""


class ImageEncoder(Encoder):
    """Convolutions whose number, size and stride follow from the image's size, then one vector per image.

    :param space: a Box for whose shape :func:`trpo_ts.envs.image_shapes.channel_axis` finds the channels.
    :param activation: the activation after each convolution.
    """

    def __init__(self, space: spaces.Box, activation: type[nn.Module]) -> None:
        axis = channel_axis(space.shape)
        assert axis is not None
        sides = image_sides(space.shape, axis)
        specification = next(layers for side, layers in _LAYERS_FROM_SIDE.items() if min(sides) >= side)
        channels = [space.shape[axis], *(outputs for outputs, _, _ in specification)]
        for _, kernel, stride in specification:
            sides = [(side - kernel) // stride + 1 for side in sides]
        super().__init__(channels[-1] * sides[0] * sides[1])
        self._axis = axis
        self.scale = UnitScale(space)
        pairs = zip(itertools.pairwise(channels), specification, strict=True)
        self.layers = nn.Sequential(
            *(
                module
                for (inputs, outputs), (_, kernel, stride) in pairs
                for module in (orthogonal_convolution(inputs, outputs, kernel, stride), activation())
            )
        )

    def forward(self, obs: object, like: Tensor) -> Tensor:
        """Return the features, shape ``(N, output_dim)``, of images ``(N, H, W, C)`` or ``(N, C, H, W)``."""
        images: Tensor = self.scale(obs, like)
        features: Tensor = self.layers(images if self._axis == 0 else images.movedim(-1, 1))
        return features.flatten(1)
