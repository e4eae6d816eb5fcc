"""Whether a policy acts by a state that it hands on from step to step, checked before anything is changed."""

from __future__ import annotations

from typing import Any, cast

import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch
from torch import Tensor

from trpo_ts.autodiff.rows import evenly_spaced
from trpo_ts.network_inputs import as_tensors, rows_of
from trpo_ts.policy_map import PolicyMap
from trpo_ts.rollout import Transitions
from trpo_ts.runtime import evaluation_mode, preserved_generators
from trpo_ts.validation.network_view import NetworkView

__all__ = ["MemoryCheck"]

_ROWS = 32


class MemoryCheck:
    """Checks, once for an actor as it is, that the state which the buffer holds beside its actions is not its memory.

    Tianshou's networks may return anything as their state, such as their features, and its multi-agent policies return
    containers of such. An update needs no state of an actor that does not read it. It replays the memory of
    :class:`trpo_ts.recurrent.recurrent_trunk.RecurrentTrunk`, and cannot replay another.
    """

    def __init__(self) -> None:
        self._checked: NetworkView | None = None

    def __call__(
        self,
        policy: ProbabilisticActorPolicy,
        transitions: Transitions,
        state: Any,
        micro_batch_size: int | None = None,
    ) -> None:
        """Check a policy on a rollout.

        :param policy: the policy.
        :param transitions: the rollout.
        :param state: the states that the policy returned, row by row; None where it returned none.
        :param micro_batch_size: the most rows in one pass; None for as many as are looked at.
        :raises ValueError: when its actions depend on the state.
        """
        if transitions.sequences is not None or not _holds_numbers(state) or self._checked == NetworkView(policy):
            return
        if _reads(policy, transitions, state, micro_batch_size or _ROWS):
            raise ValueError(
                "policy must be without memory or one of trpo_ts.policies.make_recurrent_policy, got a "
                f"{type(policy.actor).__name__} that keeps a state on which its actions depend: an update cannot tell "
                "from which state it acted; use trpo_ts.recurrent.recurrent_trunk.RecurrentTrunk for the memory"
            )
        self._checked = NetworkView(policy)


def _holds_numbers(state: Any) -> bool:
    """Whether there is anything in the nested containers of a state."""
    if isinstance(state, Batch):
        return any(_holds_numbers(item) for item in state.values())
    return state is not None


def _reads(policy: ProbabilisticActorPolicy, transitions: Transitions, state: Any, most: int) -> bool:
    """Whether the probabilities of some of the actions are others with the states than without."""
    act = transitions.act
    parameter = next(policy.parameters())
    distribution = PolicyMap(policy)

    def logp(rows: Tensor, state: Any) -> Tensor:
        obs, info, _ = transitions.policy_inputs(rows)  # each pass gets its own copy
        return cast(Tensor, distribution(obs, info, state).log_prob(act[rows]))

    with torch.no_grad(), evaluation_mode(policy), preserved_generators():
        for rows in evenly_spaced(min(_ROWS, len(act)), len(act), act.device).split(most):
            without = logp(rows, None)
            given = as_tensors(rows_of(state, rows), parameter.device, parameter.dtype)
            try:
                if not torch.equal(logp(rows, given).nan_to_num(), without.nan_to_num()):
                    return True
            except Exception:  # it looked into the state, and found something else than it returned for these rows
                return True
    return False
