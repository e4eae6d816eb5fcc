"""Beta policies for bounded continuous actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from tianshou.utils.net.common import AbstractContinuousActorProbabilistic, ModuleWithVectorOutput
from torch import Tensor, nn
from torch.distributions import Independent

from trpo_ts.distributions.samplers import OpenBeta
from trpo_ts.networks.heads import HEAD_GAIN
from trpo_ts.networks.orthogonal_layers import inverse_softplus, orthogonal_linear

__all__ = ["BetaActor", "beta_distribution"]

_LEAST_EXCESS = 1e-3
"""How far the concentrations stay above 1, where the mode would be lost."""

_LARGEST_STD = 0.5
"""On [-1, 1]. The uniform distribution has 0.58, and beyond it the density has no mode inside."""


def beta_distribution(concentrations: tuple[Tensor, Tensor]) -> Independent[OpenBeta]:
    r"""Return independent :math:`\mathrm{Beta}(\alpha, \beta)` on (0, 1) as one distribution over whole actions.

    :param concentrations: :math:`\alpha` and :math:`\beta`, each of shape ``(N, ...)``.
    """
    alpha, beta = concentrations
    return Independent(OpenBeta(alpha, beta), alpha.dim() - 1)


class BetaActor(AbstractContinuousActorProbabilistic):
    r"""Observations to the concentrations :math:`\alpha, \beta > 1` of Beta distributions with one mode each.

    Chou, Maturana, Scherer 2017, *Improving Stochastic Policy Gradients in Continuous Control with Deep
    Reinforcement Learning using the Beta Distribution*, section 4: the density ends where the actions end, so that no
    action is cut off.

    :param trunk: the network from observations to features.
    :param action_shape: the shape of an action.
    :param initial_std: the standard deviation at the start in units of [-1, 1], > 0, at most 0.5.
    """

    def __init__(self, trunk: ModuleWithVectorOutput, action_shape: Sequence[int], *, initial_std: float) -> None:
        count = math.prod(action_shape)
        super().__init__(count)
        self._action_shape = tuple(action_shape)
        self.preprocess = trunk
        self.alpha = orthogonal_linear(trunk.get_output_dim(), count, HEAD_GAIN)
        self.beta = orthogonal_linear(trunk.get_output_dim(), count, HEAD_GAIN)
        # Where alpha = beta, the variance on [-1, 1] is 1 / (2 alpha + 1).
        concentration = (min(initial_std, _LARGEST_STD) ** -2 - 1.0) / 2.0
        for head in (self.alpha, self.beta):
            nn.init.constant_(head.bias, inverse_softplus(concentration - 1.0 - _LEAST_EXCESS))

    def get_preprocess_net(self) -> ModuleWithVectorOutput:
        """Return the trunk."""
        return self.preprocess

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[tuple[Tensor, Tensor], Any]:
        r"""Return :math:`\alpha` and :math:`\beta`, each of shape ``(N, *action_shape)``, and the trunk's state."""
        features, state = self.preprocess(obs, state=state, info=info)
        alpha, beta = (
            (1.0 + _LEAST_EXCESS + F.softplus(head(features))).view(-1, *self._action_shape)
            for head in (self.alpha, self.beta)
        )
        return (alpha, beta), state
