"""Distributions as constants in float64: what divergences and probability ratios are computed from.

A KL divergence of 1e-4 is the small difference of large terms. In float32 its error is about a percent of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["exact_log_prob", "frozen", "in_double", "register_frozen"]

CONSTANTS: dict[type[Distribution], Callable[[Any], Distribution]] = {}


def frozen(distribution: Distribution) -> Distribution:
    """Return the distribution as a constant, in float64 where its very type is known, else as it is."""
    freeze = CONSTANTS.get(type(distribution))
    return distribution if freeze is None else freeze(distribution)


_Freeze = TypeVar("_Freeze", bound=Callable[[Any], Distribution])


def register_frozen(kind: type[Distribution]) -> Callable[[_Freeze], _Freeze]:
    """Return a decorator: the function gives distributions of exactly this type as constants in float64."""

    def register(function: _Freeze) -> _Freeze:
        CONSTANTS[kind] = function
        return function

    return register


def exact_log_prob(distribution: Distribution, act: Tensor) -> Tensor:
    """Return the log-probabilities of actions under a :func:`frozen` distribution, in its precision."""
    try:
        return distribution.log_prob(in_double(act))
    except RuntimeError:  # a type that is not known here stayed in the network's precision, and may not mix it
        return distribution.log_prob(act)


def in_double(tensor: Tensor) -> Tensor:
    """Return a floating tensor detached and in float64; others, and those on devices without it, as they are."""
    detached = tensor.detach()  # Apple's GPUs have no float64
    return detached.double() if detached.is_floating_point() and detached.device.type != "mps" else detached
