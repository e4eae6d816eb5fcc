"""A policy that acts step by step, with a memory of each environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch, to_numpy

from trpo_ts.agents.normalisation import Normalisation
from trpo_ts.collectors.hidden_states import with_new_memory

__all__ = ["Player"]


class Player:
    """What acts in one environment, or in several side by side.

    :param policy: the policy, in evaluation mode.
    :param normalisation: of its observations.
    """

    def __init__(self, policy: ProbabilisticActorPolicy, normalisation: Normalisation) -> None:
        self._policy, self._normalisation = policy, normalisation
        self._memory: Any = None
        self._rows = 0

    def act(self, obs: Any, count: int, *, deterministic: bool) -> np.ndarray:
        """Return the actions that environments with flat spaces take, shape ``(N, ...)``.

        :param obs: the observations of N environments, not normalised: an array ``(N, ...)``, or a batch of such.
        :param count: N.
        :param deterministic: whether the most probable actions are taken.
        :raises ValueError: for another number than before of a policy with a memory, which is as it was.
        """
        if self._memory is not None and count != self._rows:
            raise ValueError(
                f"obs must have {self._rows} row(s) as at the step before, got {count}: the policy has a memory of "
                "each; call agent.reset() to begin new episodes"
            )
        self._policy.deterministic_eval = deterministic
        with torch.no_grad():
            result = self._policy(Batch(obs=self._normalisation(obs), info=Batch()), self._memory)
        actions = to_numpy(result.act)
        if actions.dtype.kind == "f" and not np.isfinite(actions).all():
            raise ValueError(
                f"the policy must give finite actions, got {actions.tolist()}; look for NaN in its parameters"
            )
        self._memory, self._rows = result.get("state", None), count
        space = self._policy.action_space
        return np.asarray(self._policy.map_action(actions)).astype(space.dtype).reshape(count, *(space.shape or ()))

    def reset(self, finished: np.ndarray | None = None) -> None:
        """Forget what was seen in all environments, or in those whose episodes have ended, booleans ``(N,)``.

        :raises ValueError: for another number of environments.
        """
        if finished is None:
            self._memory = None
        if self._memory is None or finished is None:
            return
        if len(finished) != self._rows:
            raise ValueError(f"finished must have the shape ({self._rows},) of the batch, got {finished.shape}")
        self._memory = with_new_memory(self._memory, np.flatnonzero(finished))
