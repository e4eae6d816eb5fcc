"""From a rollout in the buffer to what networks with a memory go through once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tianshou.data import Batch, ReplayBuffer
from torch import Tensor, nn

from trpo_ts.advantages import continues
from trpo_ts.critics.recurrent import RecurrentCritic
from trpo_ts.natural_gradient.rows import row_slices
from trpo_ts.recurrent import RecurrentTrunk
from trpo_ts.rollout import evaluation_mode, state_values
from trpo_ts.sequences import SequencedObs, Sequences

__all__ = ["episode_ends", "policy_sequences", "replayed_values"]


def episode_ends(batch: Any, buffer: ReplayBuffer, indices: np.ndarray) -> np.ndarray:
    """Return which rows are the last of an episode, or of what the rollout holds of it; shape ``(N,)``."""
    ends: np.ndarray = batch.terminated | batch.truncated | np.isin(indices, buffer.unfinished_index())
    return ends


def policy_sequences(policy: nn.Module, batch: Any, buffer: ReplayBuffer, indices: np.ndarray) -> Sequences | None:
    """Return the sequences in which the policy acted, from the states in the buffer; None for one without memory.

    :param policy: the policy.
    :param batch: the rollout.
    :param buffer: the buffer it is from.
    :param indices: where in the buffer.
    :raises ValueError: when the buffer does not hold the policy's states, one before and one after each row.
    """
    trunk = next((module for module in policy.modules() if isinstance(module, RecurrentTrunk)), None)
    state = batch.get("policy", Batch()).get("hidden_state")
    if trunk is None:
        if state is not None:
            raise ValueError(
                f"policy must be without memory or one of trpo_ts.policies.make_recurrent_policy, got a "
                f"{type(getattr(policy, 'actor', policy)).__name__} that keeps a state: an update cannot tell from "
                "which state it acted"
            )
        return None
    if not isinstance(state, Batch) or {"before", "after"} - set(state.get_keys()):
        raise ValueError(
            "buffer must hold the policy's state before and after each row, as batch.policy.hidden_state, got none; "
            "collect with Tianshou's Collector and this policy, whose actor must return the state of its trunk"
        )
    parameter = next(policy.parameters())
    ends = episode_ends(batch, buffer, indices)
    before, after = (torch.as_tensor(state[key]).to(parameter) for key in ("before", "after"))
    expected = (len(ends), trunk.cell.state_size)
    if before.shape != expected:
        raise ValueError(
            f"batch.policy.hidden_state must have shape {expected}, got {tuple(before.shape)}; "
            "collect with this policy, into a buffer with stack_num=1"
        )
    # Not at ends alone: a collector that was reset in between starts a new episode after a row that ends none.
    broken = torch.as_tensor(ends).to(before.device)[:-1] | (before[1:] != after[:-1]).any(dim=1)
    return Sequences.of_rollout(before, _starts_after(broken))


def replayed_values(
    critic: RecurrentCritic, batch: Any, buffer: ReplayBuffer, indices: np.ndarray, max_batchsize: int
) -> tuple[SequencedObs, Tensor, Tensor]:
    """Run a critic with a memory along the rollout, and let it keep its states after unfinished episodes.

    :param critic: the critic.
    :param batch: the rollout, with observations as tensors.
    :param buffer: the buffer it is from.
    :param indices: where in the buffer.
    :param max_batchsize: the most rows of a pass; longer sequences are not cut.
    :return: the observations in their sequences; V(s) and V(s') of each row, both of shape ``(N,)``.
    """
    count = len(indices)
    ends = episode_ends(batch, buffer, indices)
    device = next(critic.parameters()).device
    start = _starts_after(torch.as_tensor((ends | ~continues(batch.obs, batch.obs_next))[:-1]).to(device))
    env = np.searchsorted(buffer.subbuffer_edges, indices, side="right") - 1
    first = np.flatnonzero(np.diff(env, prepend=-1))
    state = torch.zeros(count, critic.trunk.cell.state_size, dtype=next(critic.parameters()).dtype, device=device)
    state[first] = critic.kept(env[first], batch.obs[first])
    obs = SequencedObs(obs=batch.obs, sequences=Sequences.of_rollout(state, start))
    with torch.no_grad(), evaluation_mode(critic):
        parts = [obs[rows] for rows in row_slices(count, max_batchsize, obs.sequences.starts)]
        after = torch.cat([critic.trunk.replay(part.obs, part.sequences) for part in parts])
        values = torch.cat(
            [critic.head(part).flatten() for part in after[:, : critic.trunk.output_dim].split(max_batchsize)]
        )
    last = start.roll(-1).nonzero().flatten()
    reached = SequencedObs(
        obs=batch.obs_next[last], sequences=Sequences.of_rollout(after[last], start.new_ones(len(last)))
    )
    next_values = values.roll(-1)
    next_values[last] = state_values(critic, reached, len(last), max_batchsize)
    unfinished = np.flatnonzero(np.isin(indices, buffer.unfinished_index()))
    critic.keep(env[unfinished], batch.obs_next[unfinished], after[unfinished])
    # Whoever cuts a sequence goes on from the state that the critic had just now.
    state = torch.where(start[:, None], state, after.roll(1, dims=0))
    return SequencedObs(obs=batch.obs, sequences=Sequences.of_rollout(state, start)), values, next_values


def _starts_after(broken: Tensor) -> Tensor:
    """Return which rows begin a sequence, from whether the sequence breaks off between each row and the next."""
    return torch.cat([broken.new_ones(1), broken])
