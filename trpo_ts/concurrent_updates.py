"""One update at a time for a set of parameters, in whichever threads updates run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from trpo_ts.autodiff.module_tree import named_modules_of, parameters_of

__all__ = ["updated_alone"]

_lock = threading.Lock()
_updating: set[int] = set()
"""The identities of what some update is moving: parameters, and the modules that hold them."""


@contextmanager
def updated_alone(network: nn.Module, modules: Sequence[nn.Module]) -> Iterator[None]:
    """Check that no other update moves any of a network's parameters meanwhile.

    Modules count too: while another thread evaluates them, other tensors may be in the place of their parameters.
    Frozen layers may be anybody's.

    :param network: the network, for the names of its parameters.
    :param modules: all its modules.
    :raises ValueError: naming the parameters that another update is moving.
    """
    moving = {id(m) for m in modules for p in m._parameters.values() if p is not None and p.requires_grad}
    moving |= {id(p) for p in parameters_of(modules) if p.requires_grad}
    with _lock:
        shared = not _updating.isdisjoint({*moving, *map(id, modules)})
        if not shared:
            _updating.update(moving)
    if shared:
        raise ValueError(
            f"policy and critic must be in one update at a time, got {', '.join(_names(network))}, which another "
            "update, in another thread or around this one, is moving: its divergence would be measured from a policy "
            "that changes meanwhile; give each thread a copy.deepcopy of the networks, or let updates take turns with "
            "a lock"
        )
    try:
        yield
    finally:
        with _lock:
            _updating.difference_update(moving)


def _names(network: nn.Module) -> list[str]:
    """Return the names of the parameters that are being moved, by their modules or themselves."""
    with _lock:
        busy = set(_updating)
    return [
        f"{name}.{key}" if name else key
        for name, module in named_modules_of(network)
        for key, p in module._parameters.items()
        if p is not None and (id(module) in busy or id(p) in busy)
    ]
