"""The one context of an update: what it changes in modules and in torch while it runs, and puts back.

* Modules are in evaluation mode where asked for; each submodule gets its own mode back.
* Distributions do not check their arguments: it takes time, and an update turns bad candidates down itself.
* Attention and recurrent layers use kernels that have second derivatives.
* Inference mode of the caller is left: what it computes has no derivatives. So is the caller's autocast, which would
  round probabilities and divergences; :func:`callers_autocast` says what it was.
* What ``torch.compile`` compiled runs as it was written (:mod:`trpo_ts.uncompiled`).
* ``nn.Sequential`` chains of the networks are evaluated as one operation
  (:func:`trpo_ts.autodiff.fused_chains.fused_chains`).

Those of distributions, kernels and compiling are switches of torch for the whole process. Updates may overlap, nested
or in threads: the first to enter saves the switches and sets them, the last to leave restores them, also after an
exception.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType

import numpy as np
import torch
from torch import nn
from torch.backends import cuda, cudnn
from torch.distributions import Distribution

from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.autodiff.module_tree import modules_of
from trpo_ts.shared_context import SharedContext
from trpo_ts.uncompiled import uncompiled

__all__ = [
    "callers_autocast",
    "evaluation_mode",
    "generator_positions",
    "preserved_generators",
    "restored_modes",
    "twice_differentiable",
    "update_context",
    "without_validation",
]


_prepared: ContextVar[frozenset[int]] = ContextVar("prepared", default=frozenset())
_autocast: ContextVar[Mapping[str, torch.dtype]] = ContextVar("autocast", default=MappingProxyType({}))


@contextmanager
def update_context(*networks: nn.Module) -> Iterator[None]:
    """Prepare torch and the networks for an update, and put everything back afterwards.

    For networks that are prepared already, by an outer context of the same thread, it does nothing.
    """
    prepared = _prepared.get()
    networks = tuple(network for network in networks if id(network) not in prepared)
    if not networks:
        yield
        return
    with ExitStack() as stack:
        token = _prepared.set(prepared | set(map(id, networks)))
        stack.callback(_prepared.reset, token)
        modules = modules_of(*networks)
        stack.enter_context(_restored(modules))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(_without_autocast())
        stack.enter_context(without_validation())
        stack.enter_context(uncompiled())
        stack.enter_context(_twice_differentiable(modules))
        stack.enter_context(fused_chains(*networks))
        yield


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Leave the caller's autocast, and keep in mind what it was.

    Autocast keeps the weights that it has converted until its outermost context is left. Within an update, and after
    it, they would be those of before.
    """
    left = {kind: torch.get_autocast_dtype(kind) for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)}
    token, kept = _autocast.set(left), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with ExitStack() as stack:
            for kind in left:
                stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_autocast_cache_enabled(kept)
        torch.clear_autocast_cache()
        _autocast.reset(token)


def callers_autocast() -> Mapping[str, torch.dtype]:
    """Return the dtypes, by device, of the autocast that an update has left while it runs; mostly there is none."""
    return _autocast.get()


def generator_positions() -> tuple[object, ...]:
    """Return where the global random generators of torch, NumPy and Python are."""
    _, key, position, *_ = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), np.asarray(key).tobytes(), int(position), random.getstate()


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Put the random generators of torch, NumPy and Python back to where they were."""
    state, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002  networks draw from the global ones
    try:
        with torch.random.fork_rng():
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        random.setstate(pythons)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and every submodule back into its own mode afterwards."""
    with restored_modes(module) as training:
        # Setting a mode is slow, and within an update the policy mostly is in evaluation mode already.
        if training:
            module.eval()
        yield


def restored_modes(module: nn.Module) -> AbstractContextManager[bool]:
    """Give every submodule its own training mode back afterwards, and say whether any is in training mode."""
    return _restored(modules_of(module))


@contextmanager
def _restored(modules: Sequence[nn.Module]) -> Iterator[bool]:
    training = [module for module in modules if module.training]
    try:
        yield bool(training)
    finally:
        trained = set(training)
        for module in modules:
            if module.training != (module in trained):
                module.training = not module.training


@contextmanager
def _set(*switches: tuple[Callable[[], bool], Callable[[bool], object], bool]) -> Iterator[None]:
    """Set switches, each given by how it is read, how it is written and the value, and put them back."""
    before = [read() for read, _, _ in switches]
    try:
        for _, write, wanted in switches:
            write(wanted)
        yield
    finally:
        for (_, write, _), value in zip(switches, before, strict=True):
            write(value)


def _enable_cudnn(enabled: bool) -> None:
    cudnn.enabled = enabled


_VALIDATION = SharedContext(
    lambda: _set((lambda: Distribution._validate_args, Distribution.set_default_validate_args, False))
)
_CUDNN = SharedContext(lambda: _set((lambda: bool(cudnn.enabled), _enable_cudnn, False)))
# ``torch.nn.attention.sdpa_kernel`` sets the same switches in a hundred times the time.
_ATTENTION = SharedContext(
    lambda: _set(
        (cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
        (cuda.flash_sdp_enabled, cuda.enable_flash_sdp, False),
        (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, False),
        (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False),
    )
)


def without_validation() -> AbstractContextManager[None]:
    """Switch off the argument checks of torch's distributions meanwhile."""
    return _VALIDATION.held()


def twice_differentiable(*networks: nn.Module) -> AbstractContextManager[None]:
    """Choose the kernels that can be differentiated twice, for attention and for recurrent layers, meanwhile.

    The fused ones have no second derivative, which exact products with the Fisher matrix take.
    """
    return _twice_differentiable(modules_of(*networks))


@contextmanager
def _twice_differentiable(modules: Sequence[nn.Module]) -> Iterator[None]:
    recurrent = any(isinstance(module, nn.RNNBase) for module in modules)
    with _ATTENTION.held(), _CUDNN.held() if recurrent else nullcontext():
        yield
