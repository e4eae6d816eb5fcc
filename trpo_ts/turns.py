r"""The transitions of one agent that takes turns with others.

Tianshou's multi-agent algorithms hand each agent the rows in which it acted. What is recorded there ends with its own
move: the reward that another's move brings it (a lost game, a step of a parallel environment) and the end of the
episode stand in rows of others, and the next observation is another agent's. A transition of the agent lasts until its
next turn: :math:`s' =` what it sees then, :math:`r =` the sum of its rewards from its move until then.
"""

from __future__ import annotations

from copy import copy
from typing import cast

import numpy as np
from tianshou.data import Batch, ReplayBuffer
from tianshou.data.types import RolloutBatchProtocol

__all__ = ["own_transitions"]


def own_transitions(batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray) -> RolloutBatchProtocol:
    """Return an agent's rows with the reward, the next observation and the end of each until its next turn.

    The batch is returned as it is where the buffer does not hold the rows of several agents.

    :param batch: the agent's rows, as Tianshou's dispatcher makes them.
    :param buffer: the buffer of all agents' rows; its rewards are the agent's.
    :param indices: where the agent's rows are in the buffer, in the order of time in each environment.
    """
    if not isinstance(buffer.obs, Batch) or "agent_id" not in buffer.obs.get_keys() or len(indices) == len(buffer):
        return batch
    order = buffer.sample_indices(0)
    begin, end, episode_end = _spans(buffer, order, indices)
    last = cast(Batch, buffer[order[end]])
    own = copy(batch)
    spans = np.stack([begin, end + 1], axis=1).ravel()
    own.rew = np.add.reduceat(np.append(buffer.rew[order].astype(float), 0.0), spans)[::2]
    own.terminated = last.terminated
    # Nothing after the rollout is known: the sums of advantages end there.
    own.truncated = (end == episode_end) & ~last.terminated
    own.done = own.terminated | own.truncated
    # At such an end it may be another's turn. What the agent saw last is nearer to its next view than another's view.
    elsewhere = last.obs_next.agent_id != buffer.obs.agent_id[indices]
    own.obs_next = last.obs_next if _has_agent(batch.obs) else last.obs_next.obs
    own.obs_next[elsewhere] = batch.obs[elsewhere]
    return own


def _spans(buffer: ReplayBuffer, order: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where each transition begins and ends, and where its episode ends, or what the buffer holds of it.

    :param order: the indices of all rows, environment by environment, in the order of time; positions are in these.
    """
    place = np.empty(buffer.maxsize, dtype=int)
    place[order] = np.arange(len(order))
    begin = place[indices]
    env = np.searchsorted(buffer.subbuffer_edges, order, side="right")
    ends = np.flatnonzero(buffer.done[order] | (np.diff(env, append=-1) != 0))
    episode_end = ends[np.searchsorted(ends, begin)]
    end = np.minimum(episode_end, np.append(begin[1:], len(order)) - 1)
    return begin, end, episode_end


def _has_agent(obs: object) -> bool:
    """Whether the dispatcher left the agent's name in the observations: it does where they hold a mask."""
    return isinstance(obs, Batch) and "agent_id" in obs.get_keys()
