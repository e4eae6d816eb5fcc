"""Detects hooks and replaced forwards, where a module must really be called.

Elsewhere an update may compute the same in a faster way.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from trpo_ts.autodiff.module_tree import modules_of

__all__ = ["EqualForward", "computes_as", "has_forward_of", "is_self_contained", "is_watched"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class EqualForward(partial[Any]):
    """A replacement of a module's ``forward`` that computes the same."""


def is_watched(module: nn.Module) -> bool:
    """Whether the module has hooks or a ``forward`` of its own instance, or torch has hooks for all modules."""
    own = vars(module)
    replaced = "forward" in own and not isinstance(own["forward"], EqualForward)
    return replaced or any(own.get(name) for name in _HOOKS) or _globally_watched()


def is_self_contained(module: nn.Module, packages: tuple[str, ...]) -> bool:
    """Whether a call computes from the module's own parameters and buffers alone, judged by its classes.

    :param module: the module.
    :param packages: the packages whose classes do so.
    """
    parts = modules_of(module)
    known = all(kind.__module__.partition(".")[0] in packages for kind in set(map(type, parts)))
    return known and not any(map(is_watched, parts))


def _globally_watched() -> bool:
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


_FORWARD: dict[type[nn.Module], Any] = {
    kind: kind.forward for kind in (nn.Linear, nn.Conv2d, nn.Tanh, nn.Sigmoid, nn.ReLU, nn.Sequential)
}
"""torch's own ``forward`` of each class, as it was when this module was imported; libraries replace them."""


def computes_as(kind: type[nn.Module], module: nn.Module) -> bool:
    """Whether the module's ``forward`` is torch's own of ``kind``, whatever hooks do before and after it."""
    return type(module).forward is _FORWARD[kind] and "forward" not in vars(module)


def has_forward_of(kind: type[nn.Module], module: nn.Module) -> bool:
    """Whether calling the module runs torch's own ``forward`` of ``kind`` and nothing else."""
    return computes_as(kind, module) and not is_watched(module)
