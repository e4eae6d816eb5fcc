"""What an algorithm keeps from update to update, as what ``torch.load(weights_only=True)`` reads.

That is plain numbers and tensors, the statistics of returns among them.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from tianshou.algorithm.algorithm_base import TrainingStats
from tianshou.algorithm.modelfree.a2c import ActorCriticOnPolicyAlgorithm
from tianshou.data import ReplayBuffer
from tianshou.trainer import OnPolicyTrainer, OnPolicyTrainerParams

from trpo_ts.optimizer_state import check_moments, of_own_parameters
from trpo_ts.tianshou_adapter import torch_optimizer
from trpo_ts.whole_rollouts import WholeRolloutTrainer, check_not_overwritten

__all__ = ["ActorCriticWithState", "plain"]


class ActorCriticWithState(ActorCriticOnPolicyAlgorithm):
    """Tianshou's actor-critic with a ``state_dict()`` that holds everything that changes a later update."""

    progress: float | None = None
    """Where the training is, in [0, 1); the trainer sets it before each collect where a parameter has a schedule."""

    def get_extra_state(self) -> dict[str, Any]:
        """Return what, beside parameters and optimiser moments, changes a later update."""
        return {
            "ret_rms": {
                "mean": float(self.ret_rms.mean),
                "var": float(self.ret_rms.var),
                "count": int(self.ret_rms.count),
            },
            **({} if self.progress is None else {"progress": self.progress}),
            "lr_schedulers": [plain(scheduler.state_dict()) for scheduler in self.lr_schedulers],
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Set what :meth:`get_extra_state` returned.

        :raises ValueError: when the number of learning-rate schedules differs.
        """
        if len(state["lr_schedulers"]) != len(self.lr_schedulers):
            raise ValueError(
                f"state_dict must hold {len(self.lr_schedulers)} learning-rate schedule(s), "
                f"got {len(state['lr_schedulers'])}; build the algorithm with the optimiser it was saved with"
            )
        self.progress = state.get("progress")
        returns = state["ret_rms"]
        self.ret_rms.mean, self.ret_rms.var = np.float64(returns["mean"]), np.float64(returns["var"])
        self.ret_rms.count = int(returns["count"])
        for scheduler, scheduler_state in zip(self.lr_schedulers, state["lr_schedulers"], strict=True):
            scheduler.load_state_dict(copy.deepcopy(scheduler_state))

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return everything that changes a later update, as tensors and plain numbers."""
        state = super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        key = prefix + self._STATE_DICT_KEY_OPTIMIZERS
        state[key] = plain(state[key])
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state of this class, or a plain Tianshou NPG's or TRPO's, and leave ``state_dict`` untouched.

        A plain Tianshou state has no return statistics and no schedule: the present ones stay. Its optimiser has also
        the parameters that the critic shares with the policy; their moments are left out.

        :raises ValueError: when the optimisers' states are missing or do not fit, and for ``assign``.
        :raises RuntimeError: when parameters are missing, unexpected or of another shape.
        """
        if assign:
            raise ValueError(
                "assign must be False, got True: the optimiser would go on with the parameters that are replaced, "
                "and the updates would change the tensors in state_dict; load with load_state_dict(state_dict)"
            )
        if self._STATE_DICT_KEY_OPTIMIZERS not in state_dict:
            raise ValueError(
                f"state_dict must hold {self._STATE_DICT_KEY_OPTIMIZERS!r}, got the keys {list(state_dict)[:5]}...; "
                "save algorithm.state_dict(), not the policy's"
            )
        state = _with_versions_of(state_dict, state_dict)
        state[self._STATE_DICT_KEY_OPTIMIZERS] = self._fitting(state_dict[self._STATE_DICT_KEY_OPTIMIZERS])
        state.setdefault("_extra_state", self.get_extra_state())
        before = copy.deepcopy(self.state_dict())
        try:
            return super().load_state_dict(state, strict=strict)
        except Exception:
            super().load_state_dict(before)  # a failed load leaves the algorithm as it was
            raise

    def _fitting(self, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return copies of optimisers' states, for the parameters that the optimisers here have.

        The optimisers would otherwise keep updating the caller's own moment tensors.
        """
        if len(states) != len(self._optimizers):
            raise ValueError(f"state_dict must hold {len(self._optimizers)} optimiser(s), got {len(states)}")
        fitting = []
        for optimizer, state in zip(self._optimizers, states, strict=True):
            own = [p for group in torch_optimizer(optimizer).param_groups for p in group["params"]]
            state = of_own_parameters(copy.deepcopy(state), list(self.critic.parameters()), own)
            check_moments(state, own)
            fitting.append(state)
        return fitting

    def create_trainer(self, params: OnPolicyTrainerParams) -> OnPolicyTrainer:
        """Return Tianshou's trainer, which refuses a buffer that does not hold a whole rollout.

        :raises ValueError: when ``params.training_collector.buffer`` is smaller than a collect.
        """
        return WholeRolloutTrainer(self, params)

    def update(self, buffer: ReplayBuffer, batch_size: int | None, repeat: int) -> TrainingStats:
        """Update as Tianshou does.

        :raises ValueError: for a buffer in which transitions have been overwritten, before anything is changed.
        """
        if buffer is not None:
            check_not_overwritten(buffer)
        return super().update(buffer, batch_size, repeat)


def _with_versions_of(state_dict: Mapping[str, Any], items: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return items with the versions of modules, which torch hangs onto a state dict beside its own."""
    state = OrderedDict(items)
    if hasattr(state_dict, "_metadata"):
        vars(state)["_metadata"] = state_dict._metadata
    return state


def plain(value: Any) -> Any:
    """Return nested dicts and sequences with NumPy numbers made Python's; tensors and the types of dicts stay.

    A learning-rate schedule of Tianshou's turns the optimiser's rate into a ``np.float64``, which the safe
    loader of torch refuses.
    """
    if isinstance(value, dict):
        items = {key: plain(item) for key, item in value.items()}
        if isinstance(value, Counter):  # of the milestones of a schedule
            return Counter(items)
        return _with_versions_of(value, items) if isinstance(value, OrderedDict) else items
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value
