r"""The critic's values :math:`V(s)` and :math:`V(s')` of a rollout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.autodiff.rows import row_slices
from trpo_ts.critics.recurrent_critic import RecurrentCritic
from trpo_ts.recurrent.sequences import SequencedObs, Sequences, starts_after
from trpo_ts.rollout import Observations, Transitions
from trpo_ts.runtime import evaluation_mode
from trpo_ts.uncompiled import original

__all__ = ["continues", "replayed_values", "rollout_values", "state_values", "values_of"]


def values_of(critic: nn.Module, transitions: Transitions, max_batchsize: int) -> tuple[Observations, Tensor, Tensor]:
    """Return the observations as the critic takes them, V(s) and V(s') of each row, both of shape ``(N,)``.

    :param critic: the critic, with a memory or without.
    :param transitions: the rollout.
    :param max_batchsize: the most observations in one pass.
    """
    recurrent = original(critic)
    if isinstance(recurrent, RecurrentCritic):
        return replayed_values(recurrent, transitions, max_batchsize)
    return transitions.obs, *rollout_values(critic, transitions.obs, transitions.obs_next, max_batchsize)


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
            parts.append(value.detach().flatten())
    return torch.cat(parts)


def rollout_values(critic: nn.Module, obs: Any, obs_next: Any, max_batchsize: int) -> tuple[Tensor, Tensor]:
    """Return V(s) and V(s') of each row, both of shape ``(N,)``, from observations and next observations.

    :raises ValueError: see :func:`state_values`.
    """
    reused = continues(obs, obs_next)
    others = np.flatnonzero(~reused)
    with evaluation_mode(critic):
        values = state_values(critic, obs, len(reused), max_batchsize)
        next_values = values.roll(-1)
        next_values[others] = state_values(critic, obs_next[others], len(others), max_batchsize)
    return values, next_values


def replayed_values(
    critic: RecurrentCritic, transitions: Transitions, max_batchsize: int
) -> tuple[SequencedObs, Tensor, Tensor]:
    """Run a critic with a memory along the rollout, and let it keep its states after unfinished episodes.

    :param critic: the critic.
    :param transitions: the rollout.
    :param max_batchsize: the most rows of a pass; longer sequences are not cut.
    :return: the observations in their sequences; V(s) and V(s') of each row, both of shape ``(N,)``.
    """
    count, env = len(transitions), transitions.env
    device = next(critic.parameters()).device
    broken = transitions.ends | ~continues(transitions.obs, transitions.obs_next)
    start = starts_after(torch.as_tensor(broken[:-1]).to(device))
    first = np.flatnonzero(np.diff(env, prepend=-1))
    state = torch.zeros(count, critic.trunk.cell.state_size, dtype=next(critic.parameters()).dtype, device=device)
    state[first] = critic.kept(env[first], transitions.obs[first])
    obs = SequencedObs(obs=transitions.obs, sequences=Sequences.of_rollout(state, start))
    with torch.no_grad(), evaluation_mode(critic):
        parts = [obs[rows] for rows in row_slices(count, max_batchsize, obs.sequences.starts)]
        after = torch.cat([critic.trunk.replay(part.obs, part.sequences) for part in parts])
        values = torch.cat(
            [critic.head(part).flatten() for part in after[:, : critic.trunk.output_dim].split(max_batchsize)]
        )
    last = start.roll(-1).nonzero().flatten()
    reached = SequencedObs(
        obs=transitions.obs_next[last], sequences=Sequences.of_rollout(after[last], start.new_ones(len(last)))
    )
    next_values = values.roll(-1)
    next_values[last] = state_values(critic, reached, len(last), max_batchsize)
    unfinished = np.flatnonzero(transitions.unfinished)
    critic.keep(env[unfinished], transitions.obs_next[unfinished], after[unfinished])
    # Where a fit cuts a sequence, it continues from the state that the critic had just now.
    state = torch.where(start[:, None], state, after.roll(1, dims=0))
    return SequencedObs(obs=transitions.obs, sequences=Sequences.of_rollout(state, start)), values, next_values


def continues(obs: Any, obs_next: Any) -> np.ndarray:
    """Return where a row's next observation is the following row's observation, bit for bit; shape ``(N,)``.

    There V(s') need not be computed again. Comparing the observations themselves needs no knowledge of how the
    buffer lays out its environments. Rows of any other kind of observation are taken not to continue.

    :param obs: observations as a tensor ``(N, ...)`` or nested batches of such.
    :param obs_next: the next observations, likewise.
    """
    if isinstance(obs, Batch) and isinstance(obs_next, Batch) and len(obs.get_keys()) > 0:
        parts = [continues(item, obs_next.get(key)) for key, item in obs.items()]
        return np.asarray(np.logical_and.reduce(parts))
    same = np.zeros(len(obs), dtype=bool)
    if isinstance(obs, Tensor) and isinstance(obs_next, Tensor) and obs.shape == obs_next.shape:
        equal = obs_next[:-1] == obs[1:]
        others = tuple(range(1, equal.dim()))
        same[:-1] = (equal.all(dim=others) if others else equal).cpu().numpy()
    return same
