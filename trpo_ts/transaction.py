"""An update that raises leaves the learner as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from tianshou.algorithm.modelfree.a2c import ActorCriticOnPolicyAlgorithm
from torch import Tensor

from trpo_ts.critics.recurrent_critic import RecurrentCritic
from trpo_ts.tianshou_adapter import torch_optimizer
from trpo_ts.uncompiled import original

__all__ = ["undone_on_error"]

_guarded: ContextVar[frozenset[int]] = ContextVar("guarded", default=frozenset())


@contextmanager
def undone_on_error(algorithm: ActorCriticOnPolicyAlgorithm) -> Iterator[None]:
    """Put parameters, buffers, the optimiser's moments and the statistics of returns back when something is raised.

    Within another such context of the same algorithm it does nothing: the outer one puts everything back.
    """
    if id(algorithm) in _guarded.get():
        yield
        return
    token = _guarded.set(_guarded.get() | {id(algorithm)})
    before = _Snapshot(algorithm)
    try:
        yield
    except BaseException:
        before.restore()
        raise
    finally:
        _guarded.reset(token)


class _Snapshot:
    """What an update changes, copied."""

    def __init__(self, algorithm: ActorCriticOnPolicyAlgorithm) -> None:
        self._algorithm = algorithm
        self._optimizer = torch_optimizer(algorithm.optim)
        self._tensors = [*algorithm.parameters(), *algorithm.buffers()]
        # A network that assigns to its buffer, as to any attribute, has another tensor there afterwards.
        self._buffers = [
            (module, dict(module._buffers))
            for module in algorithm.modules()
            if not isinstance(module, torch.jit.ScriptModule)  # its buffers are not Python's, and keep their memory
        ]
        self._values = [tensor.detach().clone() for tensor in self._tensors]
        self._moments = {p: _copy(state) for p, state in self._optimizer.state.items()}
        self._returns = algorithm.ret_rms  # replaced by an update, not changed
        self._critic = original(algorithm.critic)
        self._memory = self._critic.get_extra_state() if isinstance(self._critic, RecurrentCritic) else None

    def restore(self) -> None:
        """Put everything back."""
        for module, buffers in self._buffers:
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for tensor, value in zip(self._tensors, self._values, strict=True):
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._moments)
        self._algorithm.ret_rms = self._returns
        if self._memory is not None:
            self._critic.set_extra_state(self._memory)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
