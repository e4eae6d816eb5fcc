"""Chains of layers as single nodes of torch's graph, while an update runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from trpo_ts.natural_gradient.chains import Evaluation, Link, links_of

__all__ = ["fused_chains", "linear_in_cotangents", "observed_chains"]


_observer: ContextVar[Callable[[Evaluation, Tensor], None] | None] = ContextVar("observer", default=None)
_only_cotangents: ContextVar[bool] = ContextVar("only_cotangents", default=False)


@contextmanager
def fused_chains(*networks: nn.Module) -> Iterator[None]:
    """Evaluate each ``nn.Sequential`` of linear layers and activations in the networks as one operation meanwhile.

    Exact up to rounding and differentiable to any order. Whatever could be noticed stays as it is: other layers,
    subclasses, layers with hooks or a replaced ``forward``; and devices other than the CPU, where the graph is not what
    takes the time.
    """
    fused: list[nn.Sequential] = []
    for network in networks:
        for module in network.modules():
            if type(module) is not nn.Sequential or "forward" in vars(module):
                continue
            links = links_of(module)
            if links is not None:
                module.forward = partial(_forward, module, links)  # type: ignore[method-assign]
                fused.append(module)
    try:
        yield
    finally:
        for sequential in fused:
            del sequential.forward


@contextmanager
def observed_chains(observer: Callable[[Evaluation, Tensor], None]) -> Iterator[None]:
    """Show the evaluations of fused chains to ``observer``, with the chain's output in its graph."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextmanager
def linear_in_cotangents() -> Iterator[None]:
    r"""Promise that :math:`J^\top u` is only differentiated with respect to :math:`u` meanwhile."""
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
    evaluation = Evaluation(links, x)
    if not torch.is_grad_enabled():
        return evaluation.values[-1]
    output = cast(Tensor, _Chain.apply(evaluation, *evaluation.inputs))
    observer = _observer.get()
    if observer is not None and output.requires_grad:
        observer(evaluation, output)
    return output


class _Chain(torch.autograd.Function):
    """The chain's output as a function of its inputs."""

    @staticmethod
    def forward(ctx: Any, evaluation: Evaluation, *inputs: Tensor | None) -> Tensor:
        ctx.evaluation = evaluation
        return evaluation.values[-1].detach()  # the evaluation must not hold the output, whose graph holds it

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        evaluation, needed = ctx.evaluation, ctx.needs_input_grad[1:]
        evaluation.check_unmodified()
        if torch.is_grad_enabled():
            return None, *_PullBack.apply(evaluation, needed, cotangent, *evaluation.inputs)
        return None, *evaluation.pull_back(cotangent, needed)


class _PullBack(torch.autograd.Function):
    r"""The chain's :math:`J^\top u` as a function of :math:`u` and of the chain's inputs."""

    @staticmethod
    def forward(
        ctx: Any, evaluation: Evaluation, needed: Sequence[bool], cotangent: Tensor, *inputs: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        ctx.evaluation, ctx.cotangent = evaluation, cotangent
        ctx.set_materialize_grads(False)
        return tuple(evaluation.pull_back(cotangent, needed))

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> Any:
        if _only_cotangents.get():
            return None, None, ctx.evaluation.push_forward(tangents), *([None] * len(tangents))
        return None, None, *_second_order(ctx.evaluation, ctx.cotangent, tangents)


def _second_order(evaluation: Evaluation, cotangent: Tensor, tangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the derivatives of the pull-back, times tangents, in the cotangent and each of the chain's inputs."""
    create_graph = torch.is_grad_enabled()
    given = {i: tangent for i, tangent in enumerate(tangents) if tangent is not None}
    results: list[Tensor | None] = [None] * (1 + len(tangents))
    if not given:
        return results
    with torch.enable_grad():
        # Aliases, so that paths from one of them to another, outside of the chain, are not followed twice.
        u, *inputs = (None if t is None else t.view_as(t) for t in (cotangent, *evaluation.inputs))
        pulled = torch.autograd.grad(
            evaluation.again(inputs), [cast(Tensor, inputs[i]) for i in given], u, create_graph=True
        )
        places = {i: t for i, t in enumerate((u, *inputs)) if t is not None and t.requires_grad}
        found = torch.autograd.grad(
            pulled, list(places.values()), list(given.values()), create_graph=create_graph, allow_unused=True
        )
    for i, value in zip(places, found, strict=True):
        results[i] = value
    return results
