"""What Tianshou compiles at each start, kept on disk."""

from __future__ import annotations

import contextlib
from typing import Any

from tianshou.algorithm import algorithm_base
from tianshou.data.buffer import manager

__all__ = ["keep_compiled"]


def keep_compiled() -> None:
    """Let numba keep Tianshou's compiled functions where it keeps such: they take seconds at each start otherwise."""
    functions: tuple[Any, ...] = (
        algorithm_base._gae,
        algorithm_base._nstep_return,
        manager._prev_index,
        manager._next_index,
    )
    for function in functions:
        # Plain functions where compiling is switched off; no place where no folder can be written to.
        with contextlib.suppress(AttributeError, RuntimeError):
            function.enable_caching()
