r"""The policy :math:`\pi(\cdot|s)` as a map from observations to action distributions."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch
from torch import nn
from torch.distributions import Distribution

from trpo_ts.autodiff.watched_modules import is_watched
from trpo_ts.runtime import preserved_generators
from trpo_ts.uncompiled import original

__all__ = ["PolicyMap"]

_FORWARD = ProbabilisticActorPolicy.forward
"""Tianshou's forward pass as it was at import."""


class PolicyMap(nn.Module):
    r"""The policy as a map from observations to action distributions, :math:`s \mapsto \pi(\cdot|s)`.

    Tianshou's ``policy(batch)`` also draws an action; this does not, and leaves the random generators alone.

    :param policy: the policy.
    :param draws: whether its actor draws random numbers, which then has to be undone.
    """

    def __init__(self, policy: ProbabilisticActorPolicy, *, draws: bool = False) -> None:
        super().__init__()
        policy = original(policy)
        self.policy, self._draws = policy, draws
        # A policy with a forward pass of its own, or with hooks, decides there what its distribution is.
        self._must_be_called = type(policy).forward is not _FORWARD or is_watched(policy)

    def forward(self, obs: Any, info: Any, state: Any = None) -> Distribution:
        """Return the action distributions for ``obs``, with the rollout's ``info`` for policies that read it.

        A policy with a memory starts from ``state``, the rows' :class:`trpo_ts.recurrent.sequences.Sequences`.
        """
        if self._must_be_called:
            with preserved_generators():
                return cast(Distribution, self.policy(Batch(obs=obs, info=info), state).dist)
        with preserved_generators() if self._draws else nullcontext():
            dist_input, _ = self.policy.actor(obs, state=state, info=info)
            return self.policy.dist_fn(dist_input)
