"""What a rollout must be, checked before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from torch import Tensor
from torch.distributions import Distribution

from trpo_ts.rollout import Transitions, are_numbers
from trpo_ts.validation.distribution_checks import is_discrete

__all__ = ["check_finite", "check_recording", "check_sampled"]


def check_finite(batch: Batch) -> None:
    """Check that observations, actions and rewards of a rollout are finite.

    :raises ValueError: naming the field, how many rows are affected and the first of them.
    """
    for field in ("obs", "obs_next", "act", "rew"):
        for path, array in _leaves(batch.get(field), field):
            if array.dtype.kind != "f":
                continue
            entries = np.isfinite(array)
            if not entries.all():
                finite = entries.reshape(len(array), -1).all(axis=1)
                first = int(np.argmin(finite))
                raise ValueError(
                    f"batch.{path} must be finite, got {array[first].tolist()!r} in row {first} "
                    f"({int((~finite).sum())} of {len(finite)} rows); nothing was updated: "
                    "look for the environment or wrapper that produces it"
                )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Batch):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, Tensor):
        yield path, value.detach().cpu().numpy()


_FEWEST = 4
"""So many rows must be wrong before the recording is: fewer tell nothing."""


def check_recording(transitions: Transitions) -> None:
    """Check that inside an episode a row's next observation is the next row's observation.

    A sound recording satisfies this in every row; one that was overwritten or rounded while it was stored, in none.
    Rows that are not consecutive steps of one environment are left out.

    :raises ValueError: naming obs and obs_next, the rows, and the fix.
    """
    if not (are_numbers(transitions.obs) and are_numbers(transitions.obs_next)):
        return
    inside = transitions.consecutive & ~transitions.ends[:-1]
    broken = inside & ~transitions.continues[:-1]
    count = int(inside.sum())
    if count >= _FEWEST and broken.sum() > 0.9 * count:
        row = int(np.argmax(broken))
        raise ValueError(
            f"batch.obs must hold what batch.obs_next of the row before holds inside an episode, got another "
            f"observation in {int(broken.sum())} of {count} rows, first in row {row + 1}; nothing was updated: let the "
            "environment return new arrays in each reset() and step() (observation.copy()), of one dtype in "
            "both, and give each worker its own environment; for Dicts take SubprocVectorEnv, not ShmemVectorEnv"
        )


def check_sampled(behaviour: Distribution, act: Tensor) -> None:
    """Check that actions are not all the mode of the distribution that they were drawn from.

    Continuous ones never are; discrete ones may be, and are refused where chance would make them so once in a billion.

    :param behaviour: the policy's distributions for some rows.
    :param act: the actions of these rows, shape ``(n, ...)``.
    :raises ValueError: when they are: nothing can be learned from a rollout that does not explore.
    """
    if len(act) < _FEWEST:
        return
    try:
        repeated = _all_modes(behaviour, act) if is_discrete(behaviour) else _all_near_modes(behaviour, act)
    except (NotImplementedError, AttributeError):  # the distribution does not say its mode or its deviation
        return
    if repeated:
        raise ValueError(
            f"batch.act must be drawn from the policy, got its most probable action in all of {len(act)} rows; nothing "
            "was updated: collect within `with policy_within_training_step(policy):`, or let the trainer do it; a "
            "multi-agent algorithm does not tell its agents: build their policies with deterministic_eval=False"
        )


def _all_modes(behaviour: Distribution, act: Tensor) -> bool:
    mode, first = behaviour.mode, slice(0, _FEWEST)
    if mode.shape != act.shape or not torch.equal(mode[first], act[first].to(mode)):  # mostly these tell already
        return False
    return torch.equal(mode, act.to(mode)) and float(behaviour.log_prob(mode).sum()) < _IMPROBABLE


def _all_near_modes(behaviour: Distribution, act: Tensor) -> bool:
    mode, std, first = behaviour.mode, behaviour.stddev, slice(0, _FEWEST)
    if mode.shape != act.shape or std.shape != act.shape:
        return False
    return _all_near(act[first], mode[first], std[first]) and _all_near(act, mode, std)


def _all_near(act: Tensor, mode: Tensor, std: Tensor) -> bool:
    """Whether actions are the mode but for rounding, where rounding alone does not make samples equal to it."""
    near = _CLOSE * std
    tells = near > 4 * torch.finfo(act.dtype).eps * mode.abs()
    return bool((tells & ((act.to(mode.dtype) - mode).abs() <= near)).all())


_IMPROBABLE = math.log(1e-9)

_CLOSE = 1e-4
"""In standard deviations: the rounding between acting and the update."""
