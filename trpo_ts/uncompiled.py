"""What ``torch.compile`` compiled, run as it was written while an update runs.

An update differentiates networks twice, puts tensors in the place of their parameters and looks at what flows through
their layers. Compiled code cannot be differentiated twice, and would be compiled anew for each of these uses. As
written the networks give the same outputs up to rounding. Outside of an update the compiled code runs as before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar, cast

import torch
from torch import nn

__all__ = ["original", "uncompiled"]

Module = TypeVar("Module", bound=nn.Module)


class _Stance:
    """The stance of torch's compiler, a setting of the whole process, while somebody holds it. Holders may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._set: AbstractContextManager[None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ignore ``torch.compile`` meanwhile: the first holder sets it so, and the last one puts the stance back."""
        with self._lock:
            if self._holders == 0:
                self._set = torch.compiler.set_stance("force_eager")
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0 and self._set is not None:
                    self._set.__exit__(None, None, None)


_STANCE = _Stance()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules, methods and functions as they were written meanwhile; nothing is compiled."""
    if "torch._dynamo" not in sys.modules:  # then nothing can have been compiled; importing it takes seconds
        yield
        return
    with _STANCE.held():
        yield


def original(module: Module) -> Module:
    """Return the module that was given to ``torch.compile``; a module that is not compiled is returned itself."""
    if "torch._dynamo" in sys.modules and isinstance(module, torch._dynamo.OptimizedModule):
        return cast(Module, module._orig_mod)
    return module
