"""Distributions that differ from torch's in how they are sampled, and in nothing that a derivative sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size, Tensor
from torch.distributions import Beta, Normal

from trpo_ts.distributions.families import register_like_parent

__all__ = ["CorrelatedNormal", "OpenBeta"]

_ONE = Size()


@register_like_parent
class OpenBeta(Beta):
    """A Beta distribution whose samples stay off 0 and 1, where rounding leads and the log-density is infinite."""

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = _ONE) -> Tensor:
        """Return samples in [eps, 1 - eps] with the dtype's eps."""
        drawn = super().sample(sample_shape)
        eps = torch.finfo(drawn.dtype).eps
        return drawn.clamp(eps, 1.0 - eps)


@register_like_parent
class CorrelatedNormal(Normal):
    r"""A normal distribution, each of whose samples may depend on earlier ones.

    :param loc: the means.
    :param scale: the standard deviations.
    :param deviation: draws :math:`a - \mu`; over all its draws it has this distribution.
    """

    def __init__(self, loc: Tensor, scale: Tensor, deviation: Callable[[], Tensor]) -> None:
        self._deviation = deviation
        super().__init__(loc, scale)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = _ONE) -> Tensor:
        """Return one sample; several at once (``sample_shape``) are independent."""
        with torch.no_grad():
            drawn: Tensor = self.loc + self._deviation() if len(sample_shape) == 0 else super().sample(sample_shape)
        return drawn
