"""A network as it was when something about it was checked, so that the check is made again once it is another."""

from __future__ import annotations

from torch import nn

from trpo_ts.autodiff.module_tree import modules_of, parameters_of

__all__ = ["NetworkView"]


class NetworkView:
    """The modules and parameters of a network; two views are equal where these are the same.

    A parameter that was frozen, unfrozen or converted to another dtype is not the same.

    :param network: the network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = modules_of(network)
        self._parameters = parameters_of(self._modules)
        self._kinds = [(p.requires_grad, p.dtype) for p in self._parameters]

    def __eq__(self, other: object) -> bool:
        """Whether the other one is the view of the same modules and parameters."""
        return (
            isinstance(other, NetworkView)
            and self._kinds == other._kinds
            and _same(self._modules, other._modules)
            and _same(self._parameters, other._parameters)
        )

    __hash__ = None  # type: ignore[assignment]


def _same(left: list[nn.Module] | list[nn.Parameter], right: list[nn.Module] | list[nn.Parameter]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))
