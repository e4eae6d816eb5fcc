"""Ctrl-C and SIGTERM as a wish to stop, which a run grants when its state is whole."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["INTERRUPTED", "StopSignals"]

INTERRUPTED = 130
"""The exit code of a run that was stopped, as a shell gives it for Ctrl-C."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Notes the first signal; the second one is a ``KeyboardInterrupt`` at once.

    :param parent: the process without which this one has no reason to run; None for none.
    """

    def __init__(self, parent: int | None = None) -> None:
        self._noted = False
        self._parent = parent

    @property
    def stop(self) -> bool:
        """Whether the run shall stop."""
        return self._noted or (self._parent is not None and os.getppid() != self._parent)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals within, where that is possible: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted:
            raise KeyboardInterrupt
        self._noted = True
