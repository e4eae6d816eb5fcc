"""The process group of a command that ``torchrun`` has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from trpo_ts.autodiff.ranks import Ranks
from trpo_ts.distributed.ranks_of_process import current_ranks

__all__ = ["TIMEOUT_VARIABLE", "ranks_of_torchrun", "size_of_torchrun"]

TIMEOUT_VARIABLE = "TRPO_TS_RANK_TIMEOUT"
"""Seconds after which a rank that does not answer ends the job; 300 where it is not set."""


def size_of_torchrun() -> int:
    """Return the number of ranks that ``torchrun`` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@contextmanager
def ranks_of_torchrun() -> Iterator[Ranks]:
    """Make the process group, on gloo, since the command line's networks are on the CPU; end it afterwards.

    :raises ValueError: for a timeout that is no number of seconds above 0.
    """
    if size_of_torchrun() == 1 or current_ranks().size > 1:
        yield current_ranks()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(seconds=_timeout()))
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0.0:
        raise ValueError(f"{TIMEOUT_VARIABLE} must be a number of seconds above 0, got {text!r}")
    return seconds
