r"""A distribution of any type again, detached and in float64, from the parameters that determine it.

``torch.distributions`` has no cast. A new object of the same class is initialised by a constructor of torch's, the one
that is nearest in the class's ancestry and whose arguments are all attributes of the distribution. It gets the other
attributes as copies. So constructors of other libraries and users, which may compute the parameters from something
else, are never called; ``Distribution.__init__``, which takes nothing but shapes, is the last resort.

What this makes is compared with the original once for each type. A type that it does not suit stays as it is.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.distributions.utils import lazy_property

__all__ = ["rebuilt"]

Cast = Callable[[Any], Any]
"""Maps a tensor or a distribution to what takes its place."""


@dataclass(frozen=True)
class _Recipe:
    """How distributions of a type are made again.

    :param constructor: the class whose ``__init__`` is called.
    :param required: the arguments that are always given.
    :param alternatives: arguments of which one is given, the others following from it, as ``probs`` and ``logits``.
    """

    constructor: type[Distribution]
    required: tuple[str, ...]
    alternatives: tuple[str, ...]

    def apply(self, distribution: Distribution, cast: Cast) -> Distribution:
        """Return the distribution again, its tensors and parts cast."""
        kind, own = type(distribution), vars(distribution)
        names = list(self.required)
        if self.alternatives:  # what it was made from stands first in its attributes; others may have been computed
            names.append(next((name for name in own if name in self.alternatives), self.alternatives[-1]))
        arguments = {name: _cast(getattr(distribution, name), cast) for name in names}
        new = object.__new__(kind)
        self.constructor.__init__(new, **arguments, validate_args=False)
        for name, value in own.items():
            if name not in vars(new) and name not in self.alternatives and not _is_computed(kind, name, own):
                vars(new)[name] = _cast(value, cast)
        return new


_RECIPES: WeakKeyDictionary[type[Distribution], _Recipe | None] = WeakKeyDictionary()
_trying = threading.RLock()  # parts of a distribution are tried within its own trial


def rebuilt(distribution: Distribution, cast: Cast) -> Distribution:
    """Return the distribution with its tensors and parts cast; itself where its type cannot be made again.

    :param distribution: the distribution.
    :param cast: maps tensors and distributions to what takes their place.
    """
    kind = type(distribution)
    if kind not in _RECIPES:
        with _trial():
            act = _sample_with_a_density(distribution)
            if act is None:  # this one says nothing about its type
                return distribution
            suiting = (recipe for recipe in _candidates(kind) if _suits(recipe, distribution, cast, act))
            _RECIPES[kind] = next(suiting, None)
    recipe = _RECIPES[kind]
    return distribution if recipe is None else recipe.apply(distribution, cast)


@contextmanager
def _trial() -> Iterator[None]:
    """Put torch's random generators back afterwards, one thread at a time."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _trying, torch.no_grad(), torch.random.fork_rng(devices):
        yield


def _sample_with_a_density(distribution: Distribution) -> Tensor | None:
    """Return a sample, None where there is none or no row of it has a finite log-probability."""
    try:
        act = distribution.sample()
        return act if bool(distribution.log_prob(act).isfinite().any()) else None
    except Exception:  # the class may be a user's, and raise anything
        return None


def _candidates(kind: type[Distribution]) -> Iterator[_Recipe]:
    """Yield recipes from torch's constructors, the nearest ancestor's first."""
    for ancestor in kind.__mro__:
        if "__init__" not in vars(ancestor) or not ancestor.__module__.startswith("torch.distributions."):
            continue
        given = inspect.signature(ancestor).parameters.values()
        defaults = {parameter.name: parameter.default for parameter in given if parameter.name != "validate_args"}
        alternatives = tuple(name for name, value in defaults.items() if value is None)
        yield _Recipe(ancestor, tuple(name for name in defaults if name not in alternatives), alternatives)


def _suits(recipe: _Recipe, distribution: Distribution, cast: Cast, act: Tensor) -> bool:
    """Whether what the recipe makes has the densities of the distribution, and can be cast."""
    try:
        again, double = recipe.apply(distribution, _itself), recipe.apply(distribution, cast)
        log_prob = double.log_prob(cast(act))
        # In the distribution's own precision: what differs is another distribution and no rounding.
        same = _close(again.log_prob(act), distribution.log_prob(act)) and log_prob.shape == again.log_prob(act).shape
    except Exception:  # an attribute that cannot be read, or a class that cannot compute with what was cast
        return False
    if not same or _shapes(double) != _shapes(distribution):
        return False
    return _has_divergence(double) or not _has_divergence(distribution)


def _has_divergence(distribution: Distribution) -> bool:
    """Whether a divergence can be computed; one that is a user's may raise anything."""
    try:
        kl_divergence(distribution, distribution)
    except Exception:
        return False
    return True


def _shapes(distribution: Distribution) -> tuple[torch.Size, torch.Size]:
    return distribution.batch_shape, distribution.event_shape


def _close(left: Tensor, right: Tensor) -> bool:
    tolerance = torch.finfo(left.dtype).eps ** 0.5
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def _itself(value: Any) -> Any:
    return value


def _cast(value: Any, cast: Cast) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_cast(item, cast) for item in value)
    return cast(value) if isinstance(value, Tensor | Distribution) else value


def _is_computed(kind: type[Distribution], name: str, own: dict[str, Any]) -> bool:
    """Whether an attribute was computed from others on demand, and will be again.

    A parameter that was given to the constructor may stand in the place of a lazy property. It was set before the
    shapes, which ``Distribution.__init__`` sets.
    """
    attribute = getattr(kind, name, None)
    if isinstance(attribute, cached_property):
        return True
    order = list(own)
    return isinstance(attribute, lazy_property) and order.index(name) > order.index("_batch_shape")
