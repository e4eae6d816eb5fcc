r"""Chains of layers as single nodes of torch's graph, while an update runs.

The graph has two kinds of node, written out in :mod:`trpo_ts.autodiff.chains`: ``_Chain`` computes the output and
``_PullBack``, its backward, computes :math:`J^\top u`. :math:`J^\top u` is linear in :math:`u`, so its derivative along
:math:`v` with respect to :math:`u` is :math:`J v`, without another node. Every other second derivative uses the
layers' own operations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn

from trpo_ts.autodiff.chains import ChainPass, Link, links_of
from trpo_ts.autodiff.module_tree import modules_of
from trpo_ts.autodiff.watched_modules import EqualForward, has_forward_of

__all__ = ["fused_chains", "linear_in_cotangents", "observed_chains"]


_observer: ContextVar[Callable[[ChainPass, Tensor], None] | None] = ContextVar("observer", default=None)
_only_cotangents: ContextVar[bool] = ContextVar("only_cotangents", default=False)
_replacing = threading.Lock()


@contextmanager
def fused_chains(*networks: nn.Module) -> Iterator[None]:
    """Evaluate each ``nn.Sequential`` of linear layers and activations in the networks as one operation.

    This replaces ``forward`` on those instances, and removes it at the end. The outputs are equal up to rounding and
    differentiable to any order. Unchanged are other layers, subclasses, layers with hooks or with a ``forward`` of
    their own, and devices other than the CPU, where the graph is not what takes the time. Of two entries that overlap,
    in threads or nested, the first replaces ``forward`` and removes it.
    """
    replaced: list[nn.Sequential] = []
    with _replacing:
        for module in modules_of(*networks):
            if type(module) is not nn.Sequential or not has_forward_of(nn.Sequential, module):
                continue
            links = links_of(module)
            if links is not None:
                module.forward = EqualForward(_forward, module, links)  # type: ignore[method-assign]
                replaced.append(module)
    try:
        yield
    finally:
        for sequential in replaced:
            del sequential.forward


@contextmanager
def observed_chains(observer: Callable[[ChainPass, Tensor], None]) -> Iterator[None]:
    """Call ``observer`` with each pass through a fused chain and the chain's output in its graph."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextmanager
def linear_in_cotangents() -> Iterator[None]:
    r"""Promise that :math:`J^\top u` is only differentiated with respect to :math:`u` inside the context."""
    token = _only_cotangents.set(True)
    try:
        yield
    finally:
        _only_cotangents.reset(token)


def _forward(sequential: nn.Sequential, links: Sequence[Link], /, input: Tensor) -> Tensor:
    on_cpu = input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if on_cpu and input.dim() == 2 and input.dtype == links[0].linear.weight.dtype:
        try:
            return _fused(links, input)
        except RuntimeError:  # a transform of torch.func, or an error that the layers themselves explain better
            pass
    return cast(Tensor, nn.Sequential.forward(sequential, input))


def _fused(links: Sequence[Link], x: Tensor) -> Tensor:
    chain = ChainPass(links, x)
    if not torch.is_grad_enabled():
        return chain.values[-1]
    output = cast(Tensor, _Chain.apply(chain, *chain.inputs))
    observer = _observer.get()
    if observer is not None and output.requires_grad:
        observer(chain, output)
    return output


class _Chain(torch.autograd.Function):
    """The chain's output, shape ``(N, outputs)``, as a function of the input, the weights and the biases."""

    @staticmethod
    def forward(ctx: Any, chain: ChainPass, *inputs: Tensor | None) -> Tensor:
        ctx.chain = chain
        return chain.values[-1].detach()  # the pass must not hold the output, whose graph holds the pass

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        chain, needed = ctx.chain, ctx.needs_input_grad[1:]  # the first argument is the pass itself
        chain.check_unmodified()
        if torch.is_grad_enabled():  # J^T u is wanted as a function, with create_graph=True
            return None, *_PullBack.apply(chain, needed, cotangent, *chain.inputs)
        return None, *chain.pull_back(cotangent, needed)


class _PullBack(torch.autograd.Function):
    r"""The chain's :math:`J^\top u` as a function of :math:`u` and of the chain's inputs."""

    @staticmethod
    def forward(
        ctx: Any, chain: ChainPass, needed: Sequence[bool], cotangent: Tensor, *inputs: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        ctx.chain, ctx.cotangent = chain, cotangent
        ctx.set_materialize_grads(False)  # None says which tangents are zero, so that nothing is computed for them
        return tuple(chain.pull_back(cotangent, needed))

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> Any:
        # The derivative of v^T (J^T u) in u is J v. Derivatives in the chain's inputs, which J depends on too, are left
        # out where nobody asks for them: products with the Fisher matrix do not.
        if _only_cotangents.get():
            return None, None, ctx.chain.push_forward(tangents), *([None] * len(tangents))
        return None, None, *_second_order(ctx.chain, ctx.cotangent, tangents)


def _second_order(chain: ChainPass, cotangent: Tensor, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the derivatives of v^T (J^T u) in u and in each of the chain's inputs, by torch's own operations.

    :param cotangent: u, shape ``(N, outputs)``.
    :param tangents: v, one tensor for each of the chain's inputs, None meaning zero.
    """
    create_graph = torch.is_grad_enabled()
    given = {i: tangent for i, tangent in enumerate(tangents) if tangent is not None}
    results: list[Tensor | None] = [None] * (1 + len(tangents))
    if not given:
        return results
    with torch.enable_grad():
        # Aliases, so that paths from one of them to another, outside of the chain, are not followed twice.
        u, *inputs = (None if t is None else t.view_as(t) for t in (cotangent, *chain.inputs))
        pulled = torch.autograd.grad(
            chain.again(inputs), [cast(Tensor, inputs[i]) for i in given], u, create_graph=True
        )  # J^T u, in the graph of u and of the inputs
        places = {i: t for i, t in enumerate((u, *inputs)) if t is not None and t.requires_grad}
        found = torch.autograd.grad(
            pulled, list(places.values()), list(given.values()), create_graph=create_graph, allow_unused=True
        )
    for i, value in zip(places, found, strict=True):
        results[i] = value
    return results
