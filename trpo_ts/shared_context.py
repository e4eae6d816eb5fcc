"""Contexts that change a setting of the whole process, for holders that may overlap, nested or in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["SharedContext"]


class SharedContext:
    """A context that the first of its holders enters and the last one leaves, also after an exception.

    :param make: returns the context; it is called for the first holder, and again for the first one after the last.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._holders = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the context."""
        with self._lock:
            if self._holders == 0:
                self._entered = self._make()
                self._entered.__enter__()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._entered.__exit__(None, None, None)
