"""How the collector asks a policy for actions.

Tianshou's collector makes a batch of the observations, a distribution that checks its arguments, and a batch of the
answer at each step. Of a policy that acts as Tianshou's ``ProbabilisticActorPolicy`` does, only the actor is run here,
and actions are drawn from what it returns with the same random numbers. Any other policy is called as Tianshou does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tianshou.algorithm.algorithm_base import Policy
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch, to_numpy
from tianshou.data.collector import get_stddev_from_dist

from trpo_ts.autodiff.watched_modules import is_watched
from trpo_ts.collectors.infos import Infos
from trpo_ts.collectors.sampling import sampler_of
from trpo_ts.collectors.straight_line import straight_line
from trpo_ts.network_inputs import takes_tensors
from trpo_ts.uncompiled import original

__all__ = ["Acting", "Action", "acting_of"]


class Action(NamedTuple):
    """What a policy does in one step of ``R`` environments.

    :param act: its actions as the buffer keeps them, shape ``(R, ...)``.
    :param sent: the actions as the environments take them.
    :param policy: what else the policy wants to be kept; None for nothing.
    :param state: its hidden state afterwards; None without memory.
    """

    act: np.ndarray
    sent: np.ndarray
    policy: Batch | None = None
    state: Any = None


class Acting(Protocol):
    """A policy as the collector's loop asks it."""

    def __call__(self, obs: Any, infos: Infos, state: Any) -> Action:
        """Return the actions for the observations of some environments, their infos and the policy's state."""

    def deviations(self) -> np.ndarray | None:
        """Return the standard deviations of all distributions so far, ``(steps * R, A)``; None where there are none."""


def acting_of(policy: Policy, *, exploration_noise: bool) -> Acting:
    """Return the fastest way to ask a policy that gives what Tianshou's collector would get.

    :param policy: the policy.
    :param exploration_noise: whether the policy's noise is added to its actions.
    """
    if (
        isinstance(policy, ProbabilisticActorPolicy)
        and original(policy) is policy
        and type(policy).forward is ProbabilisticActorPolicy.forward
        and "forward" not in vars(policy)
        and not is_watched(policy)
        and not exploration_noise
    ):
        return _ByActor(policy)
    return _ByForward(policy, exploration_noise)


class _ByActor:
    """A policy whose actor is run, and whose actions are drawn here."""

    def __init__(self, policy: ProbabilisticActorPolicy) -> None:
        self._policy, self._actor = policy, policy.actor
        # Networks that are known read no infos, and keep no tensor that a gradient could meet later.
        self._known = takes_tensors(policy.actor)
        # Autocast knows no operations that write their results into given memory.
        self._line = None if torch.is_autocast_enabled("cpu") else straight_line(policy.actor)
        # torch.compile compiles for one of the modes, and updates are in the other.
        fast = self._known and original(policy.actor) is policy.actor
        self._mode: Callable[[], AbstractContextManager[Any]] = torch.inference_mode if fast else torch.no_grad
        by_mode = policy.deterministic_eval and not policy.is_within_training_step
        self._sampler = sampler_of(policy.dist_fn, by_mode=by_mode)

    def __call__(self, obs: Any, infos: Infos, state: Any) -> Action:
        if self._line is not None:
            act = self._sampler(self._line(obs))
        else:
            act, state = self._called(obs, infos, state)
        _check_finite(act)
        sent = self._policy.map_action(act)
        return Action(act, sent) if state is None else Action(act, sent, Batch(hidden_state=state), state)

    def _called(self, obs: Any, infos: Infos, state: Any) -> tuple[np.ndarray, Any]:
        info = _NO_INFO if self._known else infos.as_batch()
        with torch.no_grad() if state is not None else self._mode():
            output, state = self._actor(obs, state=state, info=info)
            act = self._sampler(output)
        return act, None if state is None else Batch(state=state).state  # as Tianshou keeps it

    def deviations(self) -> np.ndarray | None:
        return self._sampler.deviations()


_NO_INFO = Batch()


@dataclass
class _ByForward:
    """Any other policy, called as Tianshou's collector does."""

    policy: Policy
    exploration_noise: bool
    _deviations: list[np.ndarray] = field(default_factory=list)

    def __call__(self, obs: Any, infos: Infos, state: Any) -> Action:
        batch = Batch(obs=obs, info=infos.as_batch())
        with torch.no_grad():
            result = self.policy(batch, state)
        act = to_numpy(result.act)
        if self.exploration_noise:
            act = self.policy.add_exploration_noise(act, batch)
        kept, state = result.get("policy", Batch()), result.get("state", None)
        if not isinstance(kept, Batch):
            raise TypeError(f"policy must give a Batch as its 'policy', got {type(kept).__name__}")
        if state is not None:
            kept.hidden_state = state
        distribution = result.get("dist")
        if distribution is not None:
            self._deviations.append(np.atleast_2d(to_numpy(get_stddev_from_dist(distribution))))
        return Action(act, self.policy.map_action(act), kept if len(kept.get_keys()) else None, state)

    def deviations(self) -> np.ndarray | None:
        return np.concatenate(self._deviations) if self._deviations else None


def _check_finite(act: np.ndarray) -> None:
    """Check that actions are numbers: here nothing checks the distribution they are from.

    :raises ValueError: when one is not.
    """
    if act.dtype.kind == "f" and not math.isfinite(np.add.reduce(act, axis=None)) and not np.isfinite(act).all():
        row = int(np.flatnonzero(~np.isfinite(act).reshape(len(act), -1).all(axis=1))[0])
        raise ValueError(
            f"policy must give finite actions, got {act[row].tolist()} in environment row {row}; look for NaN in its "
            "parameters or in the observations"
        )
