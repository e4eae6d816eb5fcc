"""Data-parallel updates: the ranks of ``torch.distributed``, where a script has initialised it.

Nothing of it is imported in a single process; see ``docs/distributed.md``.
"""

from trpo_ts.distributed.ranks_of_process import current_ranks

__all__ = ["current_ranks"]
