"""Gaussian policies for continuous actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tianshou.utils.net.common import AbstractContinuousActorProbabilistic, ModuleWithVectorOutput
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from trpo_ts.networks.heads import HEAD_GAIN
from trpo_ts.networks.orthogonal_layers import inverse_softplus, orthogonal_linear

__all__ = ["GaussianActor", "diagonal_gaussian"]

_LEAST_STD = 1e-3


def diagonal_gaussian(loc_scale: tuple[Tensor, Tensor]) -> Independent[Normal]:
    r"""Return :math:`\mathcal N(\mu, \mathrm{diag}(\sigma^2))` as one distribution over whole actions.

    :param loc_scale: :math:`\mu` and :math:`\sigma`, each of shape ``(N, ...)``.
    """
    loc, scale = loc_scale
    return Independent(Normal(loc, scale), loc.dim() - 1)


class FreeStd(nn.Module):
    r"""A standard deviation for each component of the action, the same for all observations.

    .. math:: \sigma = \sigma_{\min} + e^{\rho}, \quad \rho \text{ the parameter}
    """

    def __init__(self, count: int, initial_std: float, min_std: float) -> None:
        super().__init__()
        self.min_std = min_std
        self.log_std = nn.Parameter(torch.full((count,), math.log(initial_std - min_std)))

    def std(self) -> Tensor:
        """Return the standard deviations, shape ``(count,)``."""
        # The sum would be one more operation in each pass.
        return self.min_std + self.log_std.exp() if self.min_std else self.log_std.exp()

    def forward(self, features: Tensor) -> Tensor:
        """Return the standard deviations, shape ``(N, count)``."""
        return self.std().expand(features.shape[0], -1)


class StateDependentStd(nn.Module):
    r"""A standard deviation for each component of the action that depends on the observation.

    .. math:: \sigma(s) = \sigma_{\min} + \log(1 + e^{w^\top \phi(s) + b}), \qquad \sigma_{\min} \ge 10^{-3}

    It neither vanishes nor explodes where the features :math:`\phi` lead beyond what was seen.
    """

    def __init__(self, inputs: int, count: int, initial_std: float, min_std: float) -> None:
        super().__init__()
        self.min_std = max(min_std, _LEAST_STD)
        self.layer = orthogonal_linear(inputs, count, HEAD_GAIN)
        nn.init.constant_(self.layer.bias, inverse_softplus(max(initial_std - self.min_std, _LEAST_STD)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the standard deviations, shape ``(N, count)``."""
        return self.min_std + F.softplus(self.layer(features))


class GaussianActor(AbstractContinuousActorProbabilistic):
    r"""Observations to mean and standard deviation of a Gaussian; the mean is linear in the trunk's features.

    :param trunk: the network from observations to features.
    :param action_shape: the shape of an action.
    :param initial_std: the standard deviation at the start, > ``min_std``.
    :param min_std: below which it never falls, >= 0.
    :param state_dependent_std: whether the standard deviation depends on the observation.
    """

    def __init__(
        self,
        trunk: ModuleWithVectorOutput,
        action_shape: Sequence[int],
        *,
        initial_std: float,
        min_std: float,
        state_dependent_std: bool,
    ) -> None:
        inputs, count = trunk.get_output_dim(), math.prod(action_shape)
        super().__init__(count)
        self._action_shape = tuple(action_shape)
        self.preprocess = trunk
        self.mu = orthogonal_linear(inputs, count, HEAD_GAIN)
        self.sigma = (
            StateDependentStd(inputs, count, initial_std, min_std)
            if state_dependent_std
            else FreeStd(count, initial_std, min_std)
        )

    def get_preprocess_net(self) -> ModuleWithVectorOutput:
        """Return the trunk."""
        return self.preprocess

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[tuple[Tensor, Tensor], Any]:
        r"""Return :math:`\mu` and :math:`\sigma`, each of shape ``(N, *action_shape)``, and the trunk's state."""
        features, state = self.preprocess(obs, state=state, info=info)
        shape = (features.shape[0], *self._action_shape)
        return (self.mu(features).view(shape), self.sigma(features).reshape(shape)), state
