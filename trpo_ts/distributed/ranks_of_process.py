"""Which ranks the present process belongs to."""

from __future__ import annotations

import sys

from trpo_ts.autodiff.ranks import ALONE, Ranks

__all__ = ["current_ranks"]


def current_ranks() -> Ranks:
    """Return the ranks of ``torch.distributed``'s default group; :data:`ALONE` where none was initialised."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return ALONE
    if distributed.get_world_size() == 1:
        return ALONE
    from trpo_ts.distributed.process_group import ranks_of_group

    return ranks_of_group()
