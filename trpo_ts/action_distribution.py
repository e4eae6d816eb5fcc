r"""The policy :math:`\pi(\cdot|s)` as a map from observations to action distributions."""

from __future__ import annotations

from typing import Any, cast

import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch
from torch import nn
from torch.distributions import Distribution

from trpo_ts.uncompiled import original

__all__ = ["ActionDistribution"]


class ActionDistribution(nn.Module):
    r"""The policy as a map from observations to action distributions, :math:`s \mapsto \pi(\cdot|s)`.

    Tianshou's ``policy(batch)`` also draws an action; this does not, and leaves the random generators alone.
    """

    def __init__(self, policy: ProbabilisticActorPolicy) -> None:
        super().__init__()
        policy = original(policy)
        self.policy = policy
        self._samples = type(policy).forward is not ProbabilisticActorPolicy.forward

    def forward(self, obs: Any, info: Any, state: Any = None) -> Distribution:
        """Return the action distributions for ``obs``, with the rollout's ``info`` for policies that read it.

        A policy with a memory starts from ``state``, the rows' :class:`trpo_ts.recurrent.sequences.Sequences`.
        """
        if self._samples:  # a policy with its own forward pass decides there what its distribution is
            with torch.random.fork_rng():
                return cast(Distribution, self.policy(Batch(obs=obs, info=info), state).dist)
        dist_input, _ = self.policy.actor(obs, state=state, info=info)
        return self.policy.dist_fn(dist_input)
