"""One update at a time for a set of parameters, in whichever threads updates run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

__all__ = ["updated_alone"]

_lock = threading.Lock()
_updating: set[int] = set()
"""The parameters that some update is moving, by identity."""


@contextmanager
def updated_alone(network: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Check that no other update moves any of a network's parameters meanwhile.

    :param network: the network, for the names of its parameters.
    :param parameters: its parameters; frozen ones may be anybody's.
    :raises ValueError: naming the parameters that another update is moving.
    """
    moving = {id(p) for p in parameters if p.requires_grad}
    with _lock:
        shared = moving & _updating
        if not shared:
            _updating.update(moving)
    if shared:
        names = [name for name, p in network.named_parameters() if id(p) in shared]
        raise ValueError(
            f"policy and critic must be in one update at a time, got {', '.join(names)}, which another update, in "
            "another thread or around this one, is moving: its divergence would be measured from a policy that changes "
            "meanwhile; give each thread a copy.deepcopy of the networks, or let updates take turns with a lock"
        )
    try:
        yield
    finally:
        with _lock:
            _updating.difference_update(moving)
