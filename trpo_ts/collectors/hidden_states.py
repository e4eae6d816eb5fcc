"""Hidden states of policies with a memory, a row for each environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor

__all__ = ["hidden_rows", "joined_states", "with_new_memory"]


def hidden_rows(state: Any, rows: np.ndarray) -> Any:
    """Return the states of some environments."""
    return state[torch.as_tensor(rows)] if isinstance(state, Tensor) else state[rows]


def with_new_memory(state: Any, rows: np.ndarray) -> Any:
    """Return states in which some environments have no memory, as at the start of an episode; the first stay.

    As in Tianshou's collector that is zero, or None for objects.
    """
    if isinstance(state, Batch):
        batch = Batch()
        for key, value in state.items():
            batch.__dict__[key] = with_new_memory(value, rows)
        return batch
    if isinstance(state, Tensor):
        state = state.clone()
        state[torch.as_tensor(rows)] = 0
        return state
    state = np.array(state)
    state[rows] = None if state.dtype == object else 0
    return state


def joined_states(states: list[Any]) -> Any:
    """Return the states of several groups of environments, one after another; None without memory."""
    if len(states) == 1 or states[0] is None:
        return states[0]
    if isinstance(states[0], Batch):
        return Batch.cat(states)
    return torch.cat(states) if isinstance(states[0], Tensor) else np.concatenate(states)
