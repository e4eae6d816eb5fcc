"""Shapes of what a buffer recorded, checked before anything is changed."""

from __future__ import annotations

from copy import copy

import numpy as np
from tianshou.data import ReplayBuffer, to_numpy
from tianshou.data.types import RolloutBatchProtocol

from trpo_ts.tianshou_adapter import stacks_observations

__all__ = ["check_stacking", "with_scalar_rewards"]


def with_scalar_rewards(batch: RolloutBatchProtocol) -> RolloutBatchProtocol:
    """Return the batch with one number for each row as its rewards, shape ``(N,)``.

    Rewards of shape ``(N, 1)``, from environments that return an array of one number, are taken for these numbers.

    :raises ValueError: for any other shape, or what is no number.
    """
    rewards, count = np.asarray(to_numpy(batch.rew)), len(batch.act)
    if rewards.shape == (count,) and rewards is batch.rew and rewards.dtype.kind in "fiub":
        return batch
    try:
        numbers = rewards.astype(float).reshape(count) if rewards.dtype.kind == "O" else rewards.reshape(count)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"batch.rew must hold one number for each of {count} rows, got shape {rewards.shape} of {rewards.dtype}; "
            "let the environment return a float as its reward, or sum several rewards in a gymnasium.RewardWrapper"
        ) from error
    single = copy(batch)
    single.rew = numbers
    return single


def check_stacking(buffer: ReplayBuffer) -> None:
    """Check that the buffer gives the observations that the policy saw.

    :raises ValueError: when it stacks them, where the policy saw single ones.
    """
    if stacks_observations(buffer):
        raise ValueError(
            f"buffer must have stack_num=1, got {buffer.stack_num}: the policy acted on single observations, and the "
            "update would give it stacks; stack them in the environment with gymnasium.wrappers."
            "FrameStackObservation, and save memory with save_only_last_obs=True if you like"
        )
