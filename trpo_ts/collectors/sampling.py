"""Actions drawn from an actor's output, without distributions that check their arguments.

The random numbers, and so the actions, are those that the distribution's own ``sample`` would give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from tianshou.data import to_numpy
from tianshou.data.collector import get_stddev_from_dist
from tianshou.utils.net.discrete import dist_fn_categorical_from_logits
from torch import Tensor
from torch.distributions import Categorical, Distribution

from trpo_ts.policies.categorical import JointCategorical
from trpo_ts.policies.gaussian import diagonal_gaussian

__all__ = ["Sampler", "sampler_of"]


class Sampler(Protocol):
    """From an actor's output to actions."""

    def __call__(self, output: Any) -> np.ndarray:
        """Return actions, shape ``(R, ...)``."""

    def deviations(self) -> np.ndarray | None:
        """Return the standard deviations of all that were drawn from, in one row each; None without any."""


def sampler_of(dist_fn: Callable[[Any], Distribution], *, by_mode: bool) -> Sampler:
    """Return the sampler of a policy's distributions.

    :param dist_fn: makes a distribution of the actor's output.
    :param by_mode: whether the most probable action is taken instead of a random one.
    """
    if dist_fn is diagonal_gaussian:
        return _Gaussian(by_mode)
    if dist_fn is dist_fn_categorical_from_logits or (type(dist_fn) is JointCategorical and dist_fn.is_one_choice):
        return _OneChoice(by_mode)
    return _Any(dist_fn, by_mode)


class _Gaussian:
    """A Gaussian with independent components."""

    def __init__(self, by_mode: bool) -> None:
        self._by_mode = by_mode
        self._scales: list[Tensor] = []
        self._output: tuple[Tensor, Tensor] | None = None

    def __call__(self, output: tuple[Tensor, Tensor]) -> np.ndarray:
        loc, scale = output
        self._scales.append(scale)
        if self._by_mode:
            return np.asarray(loc.clone().cpu().numpy())
        # What torch.normal(loc, scale) does, without its check of the deviations.
        if loc.device.type != "cpu" or loc.dtype is not torch.float32:
            return np.asarray(torch.empty_like(loc).normal_().mul_(scale).add_(loc).cpu().numpy())
        if output is not self._output:
            self._output, self._drawn = output, torch.empty_like(loc)
            self._loc, self._scale, self._numbers = loc.numpy(), scale.numpy(), self._drawn.numpy()
        self._drawn.normal_()
        act: np.ndarray = self._numbers * self._scale  # for so few numbers NumPy takes half the time of torch
        act += self._loc
        return act

    def deviations(self) -> np.ndarray | None:
        if not self._scales:
            return None
        # Independent has a variance only, and the root of a square may differ in the last bit.
        return np.atleast_2d(to_numpy(torch.cat(self._scales).pow(2).sqrt()))


class _OneChoice:
    """One choice among categories."""

    def __init__(self, by_mode: bool) -> None:
        self._by_mode = by_mode
        self._probabilities: list[Tensor] = []

    def __call__(self, output: Tensor) -> np.ndarray:
        probabilities = (output - output.logsumexp(dim=-1, keepdim=True)).softmax(dim=-1)
        self._probabilities.append(probabilities)
        act = probabilities.argmax(-1) if self._by_mode else torch.multinomial(probabilities, 1, True).squeeze(1)
        return np.asarray(act.cpu().numpy())

    def deviations(self) -> np.ndarray | None:
        if not self._probabilities:
            return None
        probabilities = torch.cat(self._probabilities)
        distribution = Categorical(probs=probabilities, validate_args=False)
        distribution.probs = probabilities  # it has divided them by their sum, 1 up to rounding
        return np.asarray(to_numpy(get_stddev_from_dist(distribution)))


class _Any:
    """Distributions of any other kind, made and asked as Tianshou does."""

    def __init__(self, dist_fn: Callable[[Any], Distribution], by_mode: bool) -> None:
        self._dist_fn, self._by_mode = dist_fn, by_mode
        self._deviations: list[np.ndarray] = []

    def __call__(self, output: Any) -> np.ndarray:
        distribution = self._dist_fn(output)
        self._deviations.append(np.atleast_2d(to_numpy(get_stddev_from_dist(distribution))))
        act: Tensor = distribution.mode if self._by_mode else distribution.sample()
        return np.array(act.cpu().numpy())  # copied: a mode may be the actor's output itself, which is written over

    def deviations(self) -> np.ndarray | None:
        return np.concatenate(self._deviations) if self._deviations else None
