"""The one place that touches what Tianshou's algorithms keep private.

Tianshou's update is two calls, ``_preprocess_batch`` and ``_update_with_batch``, with a batch passed between them. Its
wrappers and multi-agent algorithms make these calls themselves and read the batch's fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from tianshou.algorithm.algorithm_base import Algorithm
from tianshou.data import Batch, ReplayBuffer
from tianshou.data.types import BatchWithAdvantagesProtocol
from torch import nn

from trpo_ts.rollout import Rollout

__all__ = ["OwnParameters", "as_batch", "rollout_of", "stacks_observations", "torch_optimizer"]


class _RolloutBatch(Batch):
    """A batch of Tianshou's that carries the :class:`Rollout` made of it, beside its keys."""

    __slots__ = ("rollout",)  # a key would have to be sliced, split and counted as arrays are
    rollout: Rollout


def as_batch(batch: Batch, rollout: Rollout) -> BatchWithAdvantagesProtocol:
    """Return the batch with the fields that Tianshou documents (``v_s``, ``returns``, ``adv``), and the rollout."""
    carrier = _RolloutBatch(batch)
    carrier.v_s, carrier.returns, carrier.adv = rollout.values, rollout.returns, rollout.adv
    object.__setattr__(carrier, "rollout", rollout)  # a batch makes a key of what is set as an attribute
    return cast(BatchWithAdvantagesProtocol, carrier)


def rollout_of(batch: BatchWithAdvantagesProtocol) -> Rollout:
    """Return the rollout that :func:`as_batch` put into a batch."""
    return cast(_RolloutBatch, batch).rollout


def torch_optimizer(optimizer: Algorithm.Optimizer) -> torch.optim.Optimizer:
    """Return torch's optimiser inside Tianshou's."""
    return optimizer._optim


def stacks_observations(buffer: ReplayBuffer) -> bool:
    """Whether a buffer puts observations together that were single ones when they were added."""
    return bool(buffer.stack_num > 1 and not buffer._save_only_last_obs)


class OwnParameters(nn.Module):
    """The critic as its optimiser sees it: without the parameters that the policy uses.

    :param critic: the critic.
    :param policy: the policy.
    :raises ValueError: when all of the critic's parameters are the policy's.
    """

    def __init__(self, critic: nn.Module, policy: nn.Module) -> None:
        super().__init__()
        policy_parameters = set(map(id, policy.parameters()))
        self._own = [p for p in critic.parameters() if id(p) not in policy_parameters]
        if not self._own:
            raise ValueError(
                "critic must have parameters of its own, got none: all of them belong to the policy; "
                "give it a value head"
            )

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield the critic's own parameters."""
        return iter(self._own)
