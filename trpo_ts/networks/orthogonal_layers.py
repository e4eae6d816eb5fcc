"""Layers with orthogonal weights and zero biases."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["inverse_softplus", "orthogonal_convolution", "orthogonal_linear"]


def orthogonal_linear(inputs: int, outputs: int, gain: float = math.sqrt(2.0)) -> nn.Linear:
    """Return a linear layer with orthogonal weights of the given gain and zero biases.

    A small gain in an actor's output layer starts every state at nearly the same, centred action distribution, so
    that the first trust regions are not spent on undoing a random policy.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def orthogonal_convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    """Return a two-dimensional convolution without padding, with orthogonal filters and zero biases."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride)
    nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def inverse_softplus(value: float) -> float:
    """Return the number whose softplus is ``value`` > 0."""
    return value + math.log(-math.expm1(-value))
