"""What goes wrong between ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trpo_ts.autodiff.ranks import Ranks

__all__ = ["RankError", "announced", "check_equal"]


class RankError(RuntimeError):
    """Another rank raised, was lost, or has other parameters."""


@contextmanager
def announced(ranks: Ranks) -> Iterator[None]:
    """Make an error of one rank an error of all, where it is raised before the next reduction.

    The others raise in that reduction, which must be a :meth:`Ranks.gather`.
    """
    before = ranks.reductions
    try:
        yield
    except Exception as error:
        if ranks.size > 1 and ranks.reductions == before:
            ranks.refuse(error)
        raise


def check_equal(what: str, values: Sequence[float], fix: str) -> None:
    """Check that the ranks have the same number.

    :param what: of what.
    :param values: each rank's.
    :param fix: what to do about it.
    :raises RankError: naming the ranks that differ from rank 0.
    """
    others = [rank for rank, value in enumerate(values) if value != values[0]]
    if others:
        raise RankError(
            f"{what} must be the same on all ranks, got others than those of rank 0 on rank "
            f"{', '.join(map(str, others))}; {fix}"
        )
