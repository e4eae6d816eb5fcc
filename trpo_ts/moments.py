"""Means and variances of numbers that are spread over ranks, from one message of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "RolloutMoments"]


@dataclass(frozen=True)
class Moments:
    r"""Count, mean and sum of squares of some numbers :math:`x_n`, in a unit in which the squares are in range.

    :param count: how many there are, >= 1.
    :param largest: the unit, :math:`\max_n |x_n|`; 1.0 where that is zero.
    :param mean: the mean of :math:`x_n` in this unit.
    :param squares: :math:`\sum_n (x_n - \bar x)^2` in this unit's square.
    """

    count: int
    largest: float
    mean: float
    squares: float

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Return those of a vector."""
        values = values.double()
        largest = float(values.abs().max()) or 1.0
        scaled = values / largest
        mean = scaled.mean()
        return cls(len(values), largest, float(mean), float((scaled - mean).square().sum()))

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Return those of all numbers from those of parts (Chan, Golub and LeVeque 1983)."""
        count, largest = sum(part.count for part in parts), max(part.largest for part in parts)
        units = [part.largest / largest for part in parts]
        mean = sum(part.count * unit * part.mean for part, unit in zip(parts, units, strict=True)) / count
        squares = sum(
            unit * unit * part.squares + part.count * (unit * part.mean - mean) ** 2
            for part, unit in zip(parts, units, strict=True)
        )
        return cls(count, largest, mean, squares)

    @property
    def variance(self) -> float:
        """The variance in this unit's square, not corrected for the mean's being estimated."""
        return self.squares / self.count


@dataclass(frozen=True)
class RolloutMoments:
    """The moments of a rollout over all ranks.

    :param advantages: those of the advantages before they are normalised.
    :param returns: those of the returns, in units of reward.
    :param residuals: those of the returns minus the values before the fit.
    """

    advantages: Moments
    returns: Moments
    residuals: Moments

    @staticmethod
    def message(parts: Sequence[Tensor]) -> list[float]:
        """Return what the others need to know of this rank's advantages, returns and residuals, shape ``(n,)`` each."""
        return [float(x) for m in map(Moments.of, parts) for x in (m.largest, m.mean, m.squares)]

    @classmethod
    def joined(cls, counts: Sequence[int], messages: Sequence[Sequence[float]]) -> RolloutMoments:
        """Return the moments over all ranks, from the number of rows and the message of each."""
        pairs = list(zip(counts, messages, strict=True))
        return cls(
            *(Moments.joined([Moments(count, *row[first : first + 3]) for count, row in pairs]) for first in (0, 3, 6))
        )

    def explained_variance(self, dtype: torch.dtype) -> float:
        """Return what :func:`trpo_ts.returns.explained_variance` is over all rows.

        :param dtype: that of the critic's values.
        """
        if not math.sqrt(self.returns.variance) > torch.finfo(dtype).eps:
            return 0.0
        unit = self.residuals.largest / self.returns.largest
        share = unit * unit * self.residuals.variance / self.returns.variance
        return 1.0 - share if math.isfinite(share) else 0.0
