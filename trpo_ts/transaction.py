"""An update that raises leaves the learner as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from tianshou.algorithm.modelfree.a2c import ActorCriticOnPolicyAlgorithm
from torch import Tensor, nn

from trpo_ts.autodiff.module_tree import modules_of
from trpo_ts.concurrent_updates import updated_alone
from trpo_ts.critics.recurrent_critic import RecurrentCritic
from trpo_ts.network_snapshot import NetworkSnapshot
from trpo_ts.tianshou_adapter import torch_optimizer
from trpo_ts.uncompiled import original

__all__ = ["undone_on_error"]

_guarded: ContextVar[frozenset[int]] = ContextVar("guarded", default=frozenset())


@contextmanager
def undone_on_error(algorithm: ActorCriticOnPolicyAlgorithm) -> Iterator[None]:
    """Put parameters, buffers, the optimiser's moments and the statistics of returns back when something is raised.

    Within another such context of the same algorithm it does nothing: the outer one puts everything back.

    :raises ValueError: when another update is moving some of the parameters.
    """
    if id(algorithm) in _guarded.get():
        yield
        return
    modules = modules_of(algorithm)
    with updated_alone(algorithm, modules):
        token = _guarded.set(_guarded.get() | {id(algorithm)})
        with torch.inference_mode(mode=False):  # no optimiser could use moments that were copied in that of the caller
            before = _Snapshot(algorithm, modules)
        try:
            yield
        except BaseException:
            before.restore()
            raise
        finally:
            _guarded.reset(token)


class _Snapshot:
    """What an update changes, copied."""

    def __init__(self, algorithm: ActorCriticOnPolicyAlgorithm, modules: Sequence[nn.Module]) -> None:
        self._algorithm = algorithm
        self._networks = NetworkSnapshot(modules)
        self._optimizer = torch_optimizer(algorithm.optim)
        self._moments = {p: _copy(state) for p, state in self._optimizer.state.items()}
        self._returns = algorithm.ret_rms  # replaced by an update, not changed
        self._critic = original(algorithm.critic)
        self._memory = self._critic.get_extra_state() if isinstance(self._critic, RecurrentCritic) else None

    def restore(self) -> None:
        """Put everything back."""
        self._networks.restore()
        self._optimizer.state.clear()
        self._optimizer.state.update(self._moments)
        self._algorithm.ret_rms = self._returns
        if self._memory is not None:
            self._critic.set_extra_state(self._memory)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
