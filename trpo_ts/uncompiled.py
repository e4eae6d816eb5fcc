"""What ``torch.compile`` compiled, run as it was written while an update runs.

An update differentiates networks twice, puts tensors in the place of their parameters and looks at what flows through
their layers. Compiled code cannot be differentiated twice, and would be compiled anew for each of these uses. As
written the networks give the same outputs up to rounding. Outside of an update the compiled code runs as before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import nn

from trpo_ts.shared_context import SharedContext

__all__ = ["original", "uncompiled"]

Module = TypeVar("Module", bound=nn.Module)


_STANCE = SharedContext(lambda: torch.compiler.set_stance("force_eager"))
"""The compiler's stance is a setting of the whole process."""


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules, methods and functions as they were written, in the context; nothing is compiled."""
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
