"""Distributions as constants in float64: what divergences and probability ratios are computed from.

A KL divergence of 1e-4 is the small difference of large terms. In float32 its error is about a percent of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.distributions import Distribution

from trpo_ts.distributions.rebuilt import rebuilt

__all__ = ["exact_log_prob", "frozen", "in_double", "register_frozen"]

CONSTANTS: dict[type[Distribution], Callable[[Any], Distribution]] = {}


def frozen(distribution: Distribution) -> Distribution:
    """Return the distribution as a constant in float64.

    A function that was registered for its very type makes it. Other types are made again from their parameters, or stay
    as they are where that does not give the same distribution: see :mod:`trpo_ts.distributions.rebuilt`.
    """
    freeze = CONSTANTS.get(type(distribution))
    return rebuilt(distribution, _constant) if freeze is None else freeze(distribution)


def _constant(value: Tensor | Distribution) -> Tensor | Distribution:
    return frozen(value) if isinstance(value, Distribution) else in_double(value)


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
    except RuntimeError:  # a type that could not be made again stayed in the network's precision, and may not mix it
        return distribution.log_prob(act)


def in_double(tensor: Tensor) -> Tensor:
    """Return a floating tensor detached and in float64; others, and those on devices without it, as they are."""
    detached = tensor.detach()  # Apple's GPUs have no float64
    return detached.double() if detached.is_floating_point() and detached.device.type != "mps" else detached
