"""What Tianshou's collector reads of a policy's distribution, beside the action."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch
from tianshou.data.collector import get_stddev_from_dist
from torch.distributions import Distribution
from torch.nn.parameter import UninitializedParameter

from trpo_ts.autodiff.watched_modules import is_watched
from trpo_ts.runtime import evaluation_mode, preserved_generators
from trpo_ts.uncompiled import original, uncompiled

__all__ = ["warn_of_collecting"]


def warn_of_collecting(policy: ProbabilisticActorPolicy) -> None:
    """Warn of a distribution with which Tianshou's collector would end in an error that does not say why.

    The collector records the standard deviation at each step. A policy's mode is its action in tests. An own loop may
    need neither. The policy is evaluated on an observation of its space; where it has none, or needs more than an
    observation, nothing is said.

    :param policy: the policy.
    """
    distribution = _example(original(policy))
    if distribution is None:
        return
    name = type(distribution).__name__
    try:
        get_stddev_from_dist(distribution)
    except (NotImplementedError, AttributeError):
        warnings.warn(
            f"dist_fn returns a {name} without stddev, which Tianshou's Collector reads at each step and will fail on; "
            "give the distribution the property, or the Collector a collect_stats_class that does not read it",
            stacklevel=6,
        )
    if getattr(policy, "deterministic_eval", False):
        try:
            distribution.mode  # noqa: B018
        except (NotImplementedError, AttributeError):
            warnings.warn(
                f"dist_fn returns a {name} without mode, by which a policy with deterministic_eval=True acts in tests; "
                "give the distribution the property, or build the policy with deterministic_eval=False",
                stacklevel=6,
            )


def _example(policy: ProbabilisticActorPolicy) -> Distribution | None:
    """Return the policy's distribution for an observation of its space; None where it cannot be had so."""
    if policy.observation_space is None or _would_notice(policy):
        return None
    space = copy.deepcopy(policy.observation_space)  # what is drawn from it shall not be missing elsewhere
    try:
        space.seed(0)
        with torch.no_grad(), uncompiled(), evaluation_mode(policy), preserved_generators():
            found: Any = policy.dist_fn(policy.actor(_batched(space.sample()), state=None, info=Batch())[0])
    except Exception:  # it needs infos, or another kind of observation: the collector will tell
        return None
    return found if isinstance(found, Distribution) else None


def _would_notice(policy: ProbabilisticActorPolicy) -> bool:
    """Whether an evaluation that nobody asked for would show: in hooks, an own forward pass, or lazy layers."""
    return (
        type(policy).forward is not ProbabilisticActorPolicy.forward
        or any(isinstance(parameter, UninitializedParameter) for parameter in policy.parameters())
        or any(is_watched(module) for module in policy.modules() if module is original(module))
    )


def _batched(obs: Any) -> Any:
    if isinstance(obs, dict):
        return Batch({key: _batched(item) for key, item in obs.items()})
    return np.asarray(obs)[None]
