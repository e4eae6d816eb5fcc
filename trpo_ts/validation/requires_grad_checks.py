"""Networks that freeze or unfreeze parameters while they are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["constant_requires_grad"]


@contextmanager
def constant_requires_grad(name: str, network: nn.Module) -> Iterator[None]:
    """Check that evaluations of a network meanwhile leave alone which of its parameters require a gradient.

    :param name: what the network is to a user, "policy" or "critic".
    :param network: the network.
    :raises ValueError: when one is frozen or unfrozen; it is put back before.
    """
    before = [(path, p, p.requires_grad) for path, p in network.named_parameters()]
    refusal = (
        f"{name} must not call requires_grad_() in forward(), {{}}: an update differentiates with respect to one "
        "vector of all parameters; freeze parameters before the algorithm is built, and stop a gradient within "
        "forward() by x.detach() or torch.no_grad()"
    )
    try:
        yield
    except RuntimeError as error:
        if "requires_grad flags" not in str(error):
            raise
        raise ValueError(refusal.format(f"got torch's error ({error})")) from error
    finally:
        changed = [path for path, p, required in before if p.requires_grad != required]
        for _, p, required in before:
            p.requires_grad_(required)
    if changed:
        raise ValueError(refusal.format(f"got a change of {', '.join(changed)}"))
