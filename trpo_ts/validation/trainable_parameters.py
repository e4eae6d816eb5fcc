"""The parameters of a network that an update may move, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

__all__ = ["check_no_hooks", "check_trainable"]


def check_trainable(parameters: Iterable[nn.Parameter]) -> tuple[torch.dtype, torch.device]:
    """Return the dtype and the device of those of a network's parameters that may move.

    :raises ValueError: when there is none, they are not the same for all, the dtype is not of full precision, or a
        parameter is expanded, so that it cannot be written.
    """
    trainable = [p for p in parameters if p.requires_grad]
    kinds = {(p.dtype, p.device) for p in trainable}
    scattered = [p for p in trainable if not p.is_contiguous()]  # an expanded one is
    if any(size > 1 and stride == 0 for p in scattered for size, stride in zip(p.shape, p.stride(), strict=True)):
        raise ValueError(
            "the parameters of a network must each have memory of their own, got an expanded one; make it with "
            "torch.nn.Parameter(tensor.expand(...).clone())"
        )
    if not kinds:
        raise ValueError(
            "policy and critic must each have at least one trainable parameter, got none: every parameter has "
            "requires_grad=False; unfreeze those that shall learn"
        )
    if len(kinds) > 1:
        raise ValueError(
            "the parameters of a network must share one dtype and one device, "
            f"got {sorted(f'{dtype} on {device}' for dtype, device in kinds)}; "
            "move the network with .to(...) before the algorithm is built"
        )
    dtype, device = kinds.pop()
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the parameters of a network must be torch.float32 or torch.float64, got {dtype}: a divergence of max_kl "
            "is lost in its rounding; convert the network with .float() before the algorithm is built"
        )
    return dtype, device


def check_no_hooks(parameters: Mapping[str, nn.Parameter]) -> None:
    """Check that no parameter has hooks, which derivatives with respect to one vector of all parameters pass by.

    :param parameters: those of a network that may move, by their names.
    :raises ValueError: naming the parameters.
    """
    hooked = [name for name, p in parameters.items() if p._backward_hooks or p._post_accumulate_grad_hooks]
    if hooked:
        raise ValueError(
            "the parameters of a network must have no hooks (register_hook, register_post_accumulate_grad_hook), got "
            f"some on {', '.join(hooked)}: a step along the natural gradient would be taken without them; remove them "
            "by handle.remove(), freeze what shall not move, and scale or mask values in forward()"
        )
