"""Distributions detached from their graph, in float64: divergences and probability ratios are computed from them.

A KL divergence of 1e-4 is the small difference of large terms. In float32 its error is about a percent of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.distributions import Distribution

from trpo_ts.distributions.rebuilt import rebuilt

__all__ = ["detached_double", "detached_double_tensor", "exact_log_prob", "register_detached_double"]

DETACHED_DOUBLES: dict[type[Distribution], Callable[[Any], Distribution]] = {}


def detached_double(distribution: Distribution) -> Distribution:
    """Return the distribution without its graph, in float64.

    A function that was registered for its very type makes it. Other types are made again from their parameters, or stay
    as they are where that does not give the same distribution: see :mod:`trpo_ts.distributions.rebuilt`.
    """
    make = DETACHED_DOUBLES.get(type(distribution))
    return rebuilt(distribution, _cast) if make is None else make(distribution)


def _cast(value: Tensor | Distribution) -> Tensor | Distribution:
    return detached_double(value) if isinstance(value, Distribution) else detached_double_tensor(value)


_Make = TypeVar("_Make", bound=Callable[[Any], Distribution])


def register_detached_double(kind: type[Distribution]) -> Callable[[_Make], _Make]:
    """Return a decorator: the function makes distributions of exactly this type again, detached and in float64."""

    def register(function: _Make) -> _Make:
        DETACHED_DOUBLES[kind] = function
        return function

    return register


def exact_log_prob(distribution: Distribution, act: Tensor) -> Tensor:
    """Return the log-probabilities of actions under a :func:`detached_double` distribution, in its precision."""
    try:
        return distribution.log_prob(detached_double_tensor(act))
    except RuntimeError:  # a type that could not be made again stayed in the network's precision, and may not mix it
        return distribution.log_prob(act)


def detached_double_tensor(tensor: Tensor) -> Tensor:
    """Return a floating tensor detached and in float64; others, and those on devices without it, only detached."""
    detached = tensor.detach()  # Apple's GPUs have no float64
    return detached.double() if detached.is_floating_point() and detached.device.type != "mps" else detached
