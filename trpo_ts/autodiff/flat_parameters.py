"""The trainable parameters of a module seen as one vector, and the module as a function of that vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from trpo_ts.autodiff.layer_calls import LayerCall, recorded_layers
from trpo_ts.autodiff.module_tree import modules_of, named_parameters_of
from trpo_ts.validation.trainable_parameters import check_no_hooks, check_trainable

__all__ = ["FlatParameters", "ForwardPass", "graph_nodes", "unflattened"]


@dataclass(frozen=True)
class ForwardPass:
    """An evaluation of a module with its graph, and what flowed through its layers.

    :param theta: the parameter vector, shape ``(P,)``.
    :param value: what the module returned.
    :param views: the views of ``theta`` that replaced the module's parameters, by name.
    :param layer_calls: the calls of its linear and convolutional layers; empty where they were not recorded.
    """

    theta: Tensor
    value: Any
    views: dict[str, Tensor]
    layer_calls: list[LayerCall]

    def has_rows(self, count: int) -> bool:
        """Whether the first dimension of each layer's output seems to be that of ``count`` rows of the rollout."""
        return all(len(call.shape) > 1 and call.shape[0] == count for call in self.layer_calls)


class FlatParameters:
    r"""The vector :math:`\theta` of a module's trainable parameters.

    :meth:`call` evaluates the module at any :math:`\theta` without touching the module, so that derivatives are
    taken with respect to one leaf and a candidate of the line search never overwrites the network. Parameters
    with ``requires_grad=False`` are frozen; parameters that the output does not use get a zero gradient.

    :param module: the module; its parameters must share one device and one floating dtype.
    :param only: the parameters that may move, when not all of the module's; the others are frozen.
    :raises ValueError: when there is no trainable parameter, their devices or dtypes differ, or one has hooks.
    """

    def __init__(self, module: nn.Module, only: Iterable[nn.Parameter] | None = None) -> None:
        self._module = module
        chosen = None if only is None else set(map(id, only))
        may_move = [
            (name, p)
            for name, p in named_parameters_of(module)
            if p.requires_grad and (chosen is None or id(p) in chosen)
        ]
        # Two parameters may be one and the same memory, tied by way of ``.data``: they move together.
        first_of: dict[object, str] = {}
        names = {id(p): first_of.setdefault(_memory(p), name) for name, p in may_move}
        self._parameters = {name: p for name, p in may_move if names[id(p)] == name}
        self.dtype, self.device = check_trainable(self._parameters.values())
        check_no_hooks(dict(may_move))
        # Where each parameter is looked up: more than one place where modules share it.
        self._places: list[tuple[dict[str, Any], str, str, nn.Parameter]] = [
            (submodule._parameters, key, names[id(p)], p)
            for submodule in modules_of(module)
            for key, p in submodule._parameters.items()
            if id(p) in names and p is not None
        ]
        self._kinds = {name: type(p.data) for name, p in self._parameters.items() if type(p.data) is not Tensor}

    def read(self) -> Tensor:
        """Return a copy of the current parameters, shape ``(P,)``."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])

    def write(self, theta: Tensor) -> None:
        """Set the module's parameters to ``theta``, shape ``(P,)``."""
        with torch.no_grad():
            views = unflattened(theta, self._parameters)
            torch._foreach_copy_(list(self._parameters.values()), list(views.values()))

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the views of ``theta``, shape ``(P,)``, by parameter name and in the parameters' shapes."""
        views = unflattened(theta, self._parameters)
        for name, kind in self._kinds.items():  # a subclass of Tensor may compute otherwise
            views[name] = views[name].as_subclass(kind)
        return views

    @property
    def slices(self) -> dict[str, slice]:
        """The slice of the vector that each parameter takes, by name."""
        ends = list(accumulate(p.numel() for p in self._parameters.values()))
        return {
            name: slice(end - p.numel(), end) for (name, p), end in zip(self._parameters.items(), ends, strict=True)
        }

    def forward_pass(self, theta: Tensor, *args: Any, record_layers: bool = True) -> ForwardPass:
        """Evaluate like :meth:`call`, and record what flows through the layers unless that is not wanted."""
        views = self.unflatten(theta)
        recording: AbstractContextManager[list[LayerCall]] = nullcontext([])
        if record_layers:
            recording = recorded_layers(self._module)
        with recording as layer_calls, self._substituted(views):
            output = self._module(*args)
        return ForwardPass(theta, output, views, layer_calls)

    def acting(self, *args: Any) -> Any:
        """Evaluate the module as it is, with its own parameters, as acting does."""
        return self._module(*args)

    def call(self, theta: Tensor, *args: Any) -> Any:
        """Evaluate the module on ``args`` with its trainable parameters replaced by ``theta``, shape ``(P,)``."""
        with self._substituted(self.unflatten(theta)):
            return self._module(*args)

    def check_call(self, output: Tensor, network: str) -> None:
        """Check that the module reaches its parameters through its attributes alone.

        Where ``theta`` took no gradient, no leaf of the graph may be a parameter.

        :param output: a tensor from a :meth:`call` with such a ``theta``, computed with a graph.
        :param network: what the module is to a user, "policy" or "critic".
        :raises ValueError: where a module reaches a parameter through a list, say, as well as through its attributes.
        """
        reached = {id(leaf) for leaf in _leaves(output)}
        names = [name for name, p in self._parameters.items() if id(p) in reached]
        if names:
            raise ValueError(
                f"{network} must reach each parameter as an attribute of its module, got {', '.join(names)} used in "
                "another way too (a list of tensors, a closure); use the module or its attribute in forward()"
            )

    @contextmanager
    def _substituted(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Put tensors in the place of the parameters, in the modules' own tables, and the parameters back at the end.

        ``torch.func.functional_call`` does the same in many times the time.
        """
        for table, key, name, _ in self._places:
            table[key] = tensors[name]
        try:
            yield
        finally:
            for table, key, _, parameter in self._places:
                table[key] = parameter


def _memory(parameter: nn.Parameter) -> object:
    """Return what two parameters have in common only if they are the same numbers in memory."""
    if parameter.numel() == 0 or parameter.data_ptr() == 0:
        return id(parameter)
    return parameter.data_ptr(), parameter.shape, parameter.stride()


def unflattened(theta: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the views of ``theta``, shape ``(P,)``, in the shapes of the tensors ``like`` and by their names."""
    views = theta.split([tensor.numel() for tensor in like.values()])
    return {name: view.view(tensor.shape) for (name, tensor), view in zip(like.items(), views, strict=True)}


def _leaves(output: Tensor) -> Iterator[Tensor]:
    """Yield the leaves of a tensor's graph that take a gradient."""
    for node in graph_nodes(output):
        if hasattr(node, "variable"):
            yield node.variable


def graph_nodes(output: Tensor) -> Iterator[Node]:
    """Yield the nodes of a tensor's graph."""
    nodes: list[Node] = [] if output.grad_fn is None else [output.grad_fn]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        yield node
        following = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= following
        nodes += following
