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
    """Make an error of one rank an error of all.

    Where it is raised before the next reduction, which must be a :meth:`Ranks.gather`, the others raise there, and the
    ranks can go on. Where it is raised later, in the middle of an update, the others raise as soon as they wait for
    this rank, and the job has to be started again.
    """
    before = ranks.reductions
    try:
        yield
    except Exception as error:
        if ranks.size > 1 and not isinstance(error, RankError) and not hasattr(error, _TOLD):
            setattr(error, _TOLD, True)
            if ranks.reductions == before:
                ranks.refuse(error)
            else:
                ranks.leave(error)
        raise


_TOLD = "_trpo_ts_told_other_ranks"
"""The attribute of an error that the other ranks know of, so that an outer context does not say it again."""


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
