r"""The critic's values :math:`V(s)` and :math:`V(s')` of a rollout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo_ts.autodiff.rows import row_slices
from trpo_ts.critics.recurrent_critic import RecurrentCritic
from trpo_ts.network_inputs import NetworkInput
from trpo_ts.recurrent.sequences import SequencedObs, Sequences, starts_after
from trpo_ts.rollout import Transitions
from trpo_ts.runtime import evaluation_mode
from trpo_ts.uncompiled import original

__all__ = ["replayed_values", "rollout_values", "state_values", "values_of"]


def values_of(critic: nn.Module, transitions: Transitions, max_batchsize: int) -> tuple[Any, Tensor, Tensor]:
    """Return the observations as the critic takes them, V(s) and V(s') of each row, both of shape ``(N,)``.

    :param critic: the critic, with a memory or without.
    :param transitions: the rollout.
    :param max_batchsize: the most observations in one pass.
    """
    parameter = next(critic.parameters())
    obs, obs_next = (
        NetworkInput(critic, value, device=parameter.device, dtype=parameter.dtype)
        for value in (transitions.obs, transitions.obs_next)
    )
    recurrent = original(critic)
    if isinstance(recurrent, RecurrentCritic):
        return replayed_values(recurrent, transitions, obs, obs_next, max_batchsize)
    return obs, *rollout_values(critic, obs, obs_next, transitions.continues, max_batchsize)


def state_values(critic: nn.Module, obs: Any, count: int, max_batchsize: int) -> Tensor:
    """Return the critic's values V(s) of ``count`` observations, shape ``(count,)``, without a graph.

    :raises ValueError: when the critic returns anything but one value per observation.
    """
    parts = []
    with torch.no_grad(), evaluation_mode(critic):
        for rows in row_slices(count, max_batchsize):
            value = critic(obs[rows])
            length = rows.stop - rows.start
            if not isinstance(value, Tensor) or value.numel() != length:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"critic must return one value per observation, got {got} for {length} observations; "
                    "its output must have shape (N, 1) or (N,)"
                )
            parts.append(_full_precision(value.detach().flatten()))
    return torch.cat(parts)


def rollout_values(
    critic: nn.Module, obs: Any, obs_next: Any, reused: np.ndarray, max_batchsize: int
) -> tuple[Tensor, Tensor]:
    """Return V(s) and V(s') of each row, both of shape ``(N,)``.

    :param critic: the critic.
    :param obs: observations, sliceable by row.
    :param obs_next: next observations, likewise.
    :param reused: where V(s') is the next row's V(s), shape ``(N,)``; see :attr:`Transitions.continues`.
    :param max_batchsize: the most observations in one pass.
    :raises ValueError: see :func:`state_values`.
    """
    others = np.flatnonzero(~reused)
    with evaluation_mode(critic):
        values = state_values(critic, obs, len(reused), max_batchsize)
        next_values = values.roll(-1)
        if len(others):
            chosen = obs_next[torch.as_tensor(others)]
            next_values[others] = state_values(critic, chosen, len(others), max_batchsize)
    return values, next_values


def replayed_values(
    critic: RecurrentCritic, transitions: Transitions, obs: NetworkInput, obs_next: NetworkInput, max_batchsize: int
) -> tuple[SequencedObs, Tensor, Tensor]:
    """Run a critic with a memory along the rollout, and let it keep its states after unfinished episodes.

    :param critic: the critic.
    :param transitions: the rollout.
    :param obs: its observations as the critic takes them.
    :param obs_next: the next observations, likewise.
    :param max_batchsize: the most rows of a pass; longer sequences are not cut.
    :return: the observations in their sequences; V(s) and V(s') of each row, both of shape ``(N,)``.
    """
    count, env = len(transitions), transitions.env
    device = next(critic.parameters()).device
    start = starts_after(torch.as_tensor((transitions.ends | ~transitions.continues)[:-1]).to(device))
    first = np.flatnonzero(np.diff(env, prepend=-1))
    state = torch.zeros(count, critic.trunk.cell.state_size, dtype=next(critic.parameters()).dtype, device=device)
    state[first] = critic.kept(env[first], obs[torch.as_tensor(first)])
    sequenced = obs.in_sequences(Sequences.of_rollout(state, start))
    with torch.no_grad(), evaluation_mode(critic):
        parts = [sequenced[rows] for rows in row_slices(count, max_batchsize, sequenced.sequences.starts)]
        after = torch.cat([critic.trunk.replay(part.obs, part.sequences) for part in parts])
        features = after[:, : critic.trunk.output_dim]
        values = torch.cat([_full_precision(critic.head(part).flatten()) for part in features.split(max_batchsize)])
    last = start.roll(-1).nonzero().flatten()
    reached = SequencedObs(obs=obs_next[last], sequences=Sequences.of_rollout(after[last], start.new_ones(len(last))))
    next_values = values.roll(-1)
    next_values[last] = state_values(critic, reached, len(last), max_batchsize)
    unfinished = np.flatnonzero(transitions.unfinished)
    critic.keep(env[unfinished], obs_next[torch.as_tensor(unfinished)], after[unfinished])
    # Where a fit cuts a sequence, it continues from the state that the critic had just now.
    state = torch.where(start[:, None], state, after.roll(1, dims=0))
    return obs.in_sequences(Sequences.of_rollout(state, start)), values, next_values


def _full_precision(values: Tensor) -> Tensor:
    """Return values in float32 at least: NumPy has no bfloat16, and sums of float16 overflow."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
