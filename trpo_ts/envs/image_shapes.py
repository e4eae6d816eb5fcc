"""The shapes of images: which axis holds the channels."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LEAST_SIDE", "channel_axis", "image_sides"]

LEAST_SIDE = 4
"""The shortest side of what is taken for an image."""


def channel_axis(shape: Sequence[int]) -> int | None:
    """Return the axis of an image's channels, 0 or 2; None for a shape that is no image of at least 4 x 4.

    Where two neighbouring axes are equal they are height and width, and the third is the channels; else the shorter
    one of the first and the last is.
    """
    if len(shape) != 3:
        return None
    first, middle, last = shape
    channels_first = middle == last if (first == middle) != (middle == last) else first < last
    axis = 0 if channels_first else 2
    return axis if min(image_sides(shape, axis)) >= LEAST_SIDE else None


def image_sides(shape: Sequence[int], axis: int) -> list[int]:
    """Return height and width of an image with its channels on ``axis``."""
    return [side for i, side in enumerate(shape) if i != axis]
