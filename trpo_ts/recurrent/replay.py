"""From the states that a collector stored to the sequences in which a policy with a memory acted."""

from __future__ import annotations

import numpy as np
import torch
from tianshou.data import Batch
from torch import nn

from trpo_ts.autodiff.module_tree import modules_of
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk
from trpo_ts.recurrent.sequences import Sequences, starts_after

__all__ = ["policy_sequences"]


def policy_sequences(policy: nn.Module, recorded: Batch, ends: np.ndarray) -> Sequences | None:
    """Return the sequences in which the policy acted, from the states in the buffer; None for one without memory.

    :param policy: the policy.
    :param recorded: what the collector stored of the policy's output, row by row.
    :param ends: whether a row is the last of an episode, or of what the rollout holds of it, shape ``(N,)``.
    :raises ValueError: when the buffer does not hold the policy's states, one before and one after each row.
    """
    trunk = next((module for module in modules_of(policy) if isinstance(module, RecurrentTrunk)), None)
    if trunk is None:
        return None
    state = recorded.get("hidden_state")
    if not isinstance(state, Batch) or {"before", "after"} - set(state.get_keys()):
        raise ValueError(
            "buffer must hold the policy's state before and after each row, as batch.policy.hidden_state, got none; "
            "collect with Tianshou's Collector and this policy, whose actor must return the state of its trunk"
        )
    parameter = next(policy.parameters())
    before, after = (torch.as_tensor(state[key]).to(parameter) for key in ("before", "after"))
    expected = (len(ends), trunk.cell.state_size)
    if before.shape != expected:
        raise ValueError(
            f"batch.policy.hidden_state must have shape {expected}, got {tuple(before.shape)}; "
            "collect with this policy, into a buffer with stack_num=1"
        )
    # Not at ends alone: a collector that was reset in between starts a new episode after a row that ends none.
    broken = torch.as_tensor(ends).to(before.device)[:-1] | (before[1:] != after[:-1]).any(dim=1)
    return Sequences.of_rollout(before, starts_after(broken))
