"""What ranks agree on so that they make the same update, from the same parameters, or none."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trpo_ts.autodiff.ranks import Shard
from trpo_ts.distributed.rank_errors import check_equal
from trpo_ts.distributed.ranks_of_process import current_ranks
from trpo_ts.moments import RolloutMoments
from trpo_ts.recurrent.sequences import sequence_starts
from trpo_ts.rollout import Transitions

__all__ = ["Agreement", "SameUpdate", "start_alike"]

_EVERY = 10
"""Updates between two comparisons of the parameters."""


def start_alike(network: nn.Module) -> None:
    """Give a network the parameters and buffers that it has on rank 0.

    :raises RankError: when the ranks have networks of other shapes.
    """
    ranks = current_ranks()
    if ranks.size == 1:
        return
    tensors = [*network.parameters(), *network.buffers()]
    code = zlib.crc32(repr([(tensor.shape, tensor.dtype) for tensor in tensors]).encode())
    codes = [number for (number,) in ranks.gather([code])]
    check_equal("the shapes of the parameters", codes, "build the same policy and critic on each")
    with torch.no_grad():
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            sent = ranks.first(torch.cat([tensor.reshape(-1) for tensor in alike]))
            for tensor, part in zip(alike, sent.split([tensor.numel() for tensor in alike]), strict=True):
                tensor.copy_(part.view(tensor.shape))


@dataclass(frozen=True)
class Agreement:
    """What all ranks know of each other's rollouts before an update.

    :param transitions: this rank's, with their place among those of all ranks.
    :param moments: those of advantages, returns and residuals over all ranks; None in a single process.
    :param critic_sequence_shard: the critic's sequences as a part of those of all ranks, for one with a memory.
    """

    transitions: Transitions
    moments: RolloutMoments | None = None
    critic_sequence_shard: Shard | None = None


class SameUpdate:
    """The agreement before an update, and now and then on the parameters."""

    def __init__(self) -> None:
        self._updates = 0
        self.call = (0, 1)
        """``batch_size``, 0 for None, and ``repeat`` of the present update."""

    def agreed(
        self,
        algorithm: Any,
        transitions: Transitions,
        adv: Tensor,
        returns: np.ndarray,
        values: np.ndarray,
        critic_obs: Any,
    ) -> Agreement:
        """Meet before anything is changed: one reduction. Where a rank has raised before, all do here.

        :param algorithm: NPG or TRPO.
        :param transitions: this rank's rows.
        :param adv: their advantages before they are normalised, shape ``(n,)``.
        :param returns: their returns, in units of reward, shape ``(n,)``.
        :param values: V(s) in the same unit, shape ``(n,)``.
        :param critic_obs: the observations as the critic takes them.
        :raises RankError: when the ranks differ in parameters, settings, progress or the call.
        :raises ValueError: for a critic that takes statistics of batches, and a fit that knows no ranks.
        """
        ranks = current_ranks()
        if ranks.size == 1:
            return Agreement(transitions)
        _check_parts(algorithm)
        sequences, of_critic = transitions.starts, sequence_starts(critic_obs)
        shared = [
            -1.0 if algorithm.progress is None else algorithm.progress,
            _code_of_settings(algorithm),
            checksum(algorithm) if self._updates % _EVERY == 0 else 0,
            *self.call,
        ]
        counts = [len(transitions), *(0 if starts is None else len(starts) for starts in (sequences, of_critic))]
        moments = RolloutMoments.message([adv, torch.as_tensor(returns), torch.as_tensor(returns - values)])
        gathered = ranks.gather([*shared, *counts, *moments])
        _check_alike(zip(*gathered, strict=True))
        rows, policy_counts, critic_counts = ([int(row[place]) for row in gathered] for place in (5, 6, 7))
        self._updates += 1
        return Agreement(
            replace(
                transitions,
                shard=Shard.of_counts(rows, ranks),
                sequence_shard=None if sequences is None else Shard.of_counts(policy_counts, ranks),
            ),
            RolloutMoments.joined(rows, [row[8:] for row in gathered]),
            None if of_critic is None else Shard.of_counts(critic_counts, ranks),
        )


def _check_alike(columns: Iterable[Sequence[float]]) -> None:
    for (what, fix), values in zip(_ALIKE, columns, strict=False):
        check_equal(what, values, fix)


_ALIKE = (
    ("algorithm.progress", "count the steps of all ranks"),
    ("the settings of the algorithm", "build it with the same parameters on each"),
    (
        "parameters and return statistics",
        "change them on all ranks alike; ranks need the same machines, threads and library versions",
    ),
    ("batch_size", "call update() with the same on each"),
    ("repeat", "call update() with the same on each"),
)
"""What each rank's message begins with, and what to do where it differs."""


def checksum(algorithm: Any) -> int:
    """Return a number that parameters and return statistics give, and mostly only they."""
    code = zlib.crc32(repr((algorithm.ret_rms.mean, algorithm.ret_rms.var, algorithm.ret_rms.count)).encode())
    for parameter in algorithm.parameters():
        code = zlib.crc32(parameter.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy(), code)
    return code


def _check_parts(algorithm: Any) -> None:
    # Whatever its mode is now: the fit puts the critic into training mode, but for what it shares with the policy.
    of_policy = set(algorithm.policy.modules())
    if any(isinstance(module, _BatchNorm) and module not in of_policy for module in algorithm.critic.modules()):
        raise ValueError(
            "critic must take no statistics of batches with several ranks, got batch normalisation: each rank would "
            "have its own; take layer normalisation (make_critic(..., layer_norm=True))"
        )
    fit = algorithm.critic_fit
    if fit is not None and not getattr(fit, "over_ranks", False):
        raise ValueError(
            f"critic_fit must sum over the ranks where there are several, got {type(fit).__name__}; sum by "
            "task.rows.ranks and set over_ranks = True, or take one of trpo_ts.critics"
        )


def _code_of_settings(algorithm: Any) -> int:
    """Return a number for the settings; those that a schedule moves are the same where progress is."""
    settings = {
        name: value
        for name, value in vars(algorithm).items()
        if isinstance(value, int | float | str) and not name.startswith("_") and name not in ("progress", "training")
    }
    return zlib.crc32(repr((sorted(settings.items()), algorithm.preconditioner)).encode())
