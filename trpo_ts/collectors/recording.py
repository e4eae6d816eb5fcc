"""The transitions of a collect, and how they get into Tianshou's buffer.

Each step is kept as the arrays that the environments and the policy returned. Many steps are written into the buffer
at a time: adding one step to a ``VectorReplayBuffer`` takes as long as simulating several environments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from tianshou.data import Batch, ReplayBuffer, ReplayBufferManager
from tianshou.data.batch import alloc_by_keys_diff, create_value
from tianshou.data.types import RolloutBatchProtocol

from trpo_ts.collectors.episodes import RunningEpisodes
from trpo_ts.collectors.infos import Infos, joined_infos
from trpo_ts.collectors.observation_rows import joined_observations, size_of

__all__ = ["COLUMNS", "Recording", "parts_of"]

COLUMNS = ("obs", "act", "rew", "terminated", "truncated", "done", "obs_next")
"""What is kept of each step beside infos and the policy's own, by Tianshou's names."""

_MOST_BYTES = 2**26
"""Of observations that are kept beside the buffer; those of images would need much memory twice."""

_MOST_STEPS = 4096
"""That are kept, since each of them is a dozen objects."""


@dataclass
class Recording:
    """Steps that are not in the buffer yet.

    :param buffer: the buffer they are for.
    """

    buffer: ReplayBuffer
    _steps: list[tuple[np.ndarray, Infos, Batch | None, tuple[Any, ...]]] = field(default_factory=list)
    _bytes: int = 0

    def add(self, envs: np.ndarray, infos: Infos, policy: Batch | None, step: tuple[Any, ...]) -> None:
        """Add a step of some environments.

        :param envs: their numbers, shape ``(R,)``.
        :param infos: what they said.
        :param policy: what the policy wants to be kept, such as its hidden state; None for nothing.
        :param step: the columns of :data:`COLUMNS`, each of ``R`` rows.
        """
        self._bytes += size_of(step[0])
        self._steps.append((envs, infos, policy, step))  # at once: an interrupt finds whole steps

    @property
    def is_large(self) -> bool:
        """Whether so much is kept that it should be written."""
        return self._bytes > _MOST_BYTES or len(self._steps) >= _MOST_STEPS

    def write(self, episodes: RunningEpisodes) -> None:
        """Write all steps into the buffer, which then is as if Tianshou had added them one by one.

        :param episodes: the episodes that run in the environments now.
        """
        if not self._steps:
            return
        envs_of_steps, infos, policies, steps = zip(*self._steps, strict=True)
        envs = np.concatenate(envs_of_steps)
        columns = {
            name: joined_observations(column) for name, column in zip(COLUMNS, zip(*steps, strict=True), strict=True)
        }
        batch = Batch()
        batch.__dict__.update(columns, info=joined_infos(infos))
        kept_by_policy = [policy for policy in policies if policy is not None]
        batch.__dict__["policy"] = Batch.cat(kept_by_policy) if kept_by_policy else Batch()
        if not self.buffer._save_obs_next:
            batch.pop("obs_next", None)
        self._place(envs, columns["done"], batch, episodes)
        self._steps, self._bytes = [], 0

    def _place(self, envs: np.ndarray, done: np.ndarray, batch: Batch, episodes: RunningEpisodes) -> None:
        """Write rows to where each belongs, and move the buffer's positions past them."""
        parts, offsets = parts_of(self.buffer), self.buffer.subbuffer_edges
        order, counts = np.argsort(envs, kind="stable"), np.bincount(envs, minlength=len(parts))
        firsts = np.cumsum(counts) - counts
        of_row = envs[order]
        number = np.arange(len(envs)) - firsts[of_row]  # of the row among those of its environment
        begin = np.array([part._insertion_idx for part in parts])
        size = np.array([part.maxsize for part in parts])
        index = (begin[of_row] + number) % size[of_row]
        places, kept = np.empty_like(index), np.empty(len(index), dtype=bool)
        places[order] = offsets[of_row] + index
        kept[order] = number >= (counts - size)[of_row]  # a longer sequence overwrites its own beginning
        _set_rows(self.buffer, places[kept], batch if kept.all() else batch[kept])
        ends, done = firsts + counts, done[order]
        for env in np.flatnonzero(counts).tolist():
            part, rows = parts[env], slice(firsts[env], ends[env])
            _advance(part, index[rows], np.flatnonzero(done[rows]))
            part._ep_return, part._ep_len = episodes.returns[env], int(episodes.lengths[env])
            if isinstance(self.buffer, ReplayBufferManager):
                self.buffer.last_index[env] = offsets[env] + index[rows][-1]
                self.buffer._lengths[env] = len(part)


def parts_of(buffer: ReplayBuffer) -> list[ReplayBuffer]:
    """Return the buffer of each environment."""
    return list(buffer.buffers) if isinstance(buffer, ReplayBufferManager) else [buffer]


def _advance(part: ReplayBuffer, indices: np.ndarray, ends: np.ndarray) -> None:
    """Move the position of a buffer past rows that are written to these indices, some of which end episodes."""
    part.last_index[0] = indices[-1]
    part._size = min(part._size + len(indices), part.maxsize)
    part._insertion_idx = int(indices[-1] + 1) % part.maxsize
    if ends.size:
        part._ep_start_idx = int(indices[ends[-1]] + 1) % part.maxsize


def _set_rows(buffer: ReplayBuffer, indices: np.ndarray, batch: Batch) -> None:
    """Write rows, and make room for fields that the buffer does not have yet."""
    try:
        buffer._meta[indices] = batch
    except ValueError:
        batch.rew = batch.rew.astype(float)
        if len(buffer._meta.get_keys()) == 0:
            buffer._meta = cast(RolloutBatchProtocol, create_value(batch, buffer.maxsize, stack=False))
        else:
            alloc_by_keys_diff(buffer._meta, cast(Any, batch), buffer.maxsize, stack=False)
        if isinstance(buffer, ReplayBufferManager):
            buffer._set_batch_for_children()
        buffer._meta[indices] = batch
