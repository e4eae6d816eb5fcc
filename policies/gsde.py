"""Generalised state-dependent exploration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from trpo_ts.distributions.samplers import CorrelatedNormal
from trpo_ts.networks.heads import HEAD_GAIN
from trpo_ts.networks.orthogonal_layers import orthogonal_linear
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["StateDependentExploration"]


class StateDependentExploration(nn.Module):
    r"""Features to a Gaussian whose noise is a function of the state that is held over several steps.

    Raffin, Kober, Stulp 2020, *Smooth Exploration for Robotic Reinforcement Learning*, arXiv:2005.05719, section 3:

    .. math:: a = \mu(s) + E^\top z(s), \quad E_{ij} \sim \mathcal N(0, \sigma_{ij}^2), \qquad
              a_j \mid s \sim \mathcal N\left(\mu_j(s), \textstyle\sum_i \sigma_{ij}^2 z_i(s)^2\right).

    Actions are sampled by the left side with one :math:`E` for ``noise_steps`` steps of each environment, so that
    exploration is smooth; densities are those of the right side, the marginal.

    The noise that is held is part of ``state_dict()``: a resumed run continues with it.

    It differs from the paper in two points. :math:`z` is the features and a constant 1, scaled to unit length, so
    that the standard deviation starts at ``initial_std`` everywhere and vanishes nowhere. And gradients flow through
    :math:`z`, since the Fisher matrix has to know all that a step of the parameters changes.

    :param inputs: how many features there are.
    :param action_shape: the shape of an action.
    :param initial_std: the standard deviation at the start, > 0.
    :param noise_steps: for how many samples the noise is held, >= 1.
    """

    def __init__(self, inputs: int, action_shape: Sequence[int], *, initial_std: float, noise_steps: int) -> None:
        super().__init__()
        count = math.prod(action_shape)
        self._action_shape = tuple(action_shape)
        self._noise_steps = noise_steps
        self.mu = orthogonal_linear(inputs, count, HEAD_GAIN)
        self.log_std = nn.Parameter(torch.full((inputs + 1, count), math.log(initial_std)))
        self.reset_noise()

    def forward(self, features: Tensor) -> Independent[CorrelatedNormal]:
        """Return the marginal distributions of actions, which are sampled with the noise that is held."""
        z = nn.functional.normalize(torch.cat([features, torch.ones_like(features[:, :1])], dim=1))
        loc = self.mean(features)
        scale = (z.square() @ (2.0 * self.log_std).exp()).sqrt().view(loc.shape)
        deviation = partial(self._deviation, z.detach())
        return Independent(CorrelatedNormal(loc, scale, deviation), len(self._action_shape))

    def mean(self, features: Tensor) -> Tensor:
        """Return the means of the actions, shape ``(N, *action_shape)``."""
        means: Tensor = self.mu(features).view(features.shape[0], *self._action_shape)
        return means

    def get_extra_state(self) -> dict[str, Any]:
        """Return the noise that is held, and for how many samples it has been, as part of ``state_dict()``."""
        return {"noise": self._noise, "age": self._age}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Set what :meth:`get_extra_state` returned.

        :raises ValueError: for noise of another shape, and an age that is none.
        """
        noise, age = state["noise"], state["age"]
        shape = tuple(self.log_std.shape)
        if not isinstance(noise, Tensor) or noise.ndim != 3 or noise.shape[1:] != shape:
            raise ValueError(f"noise must be a tensor of shape {shape} for each environment")
        self._noise, self._age = noise.clone(), check_integer("age", age, 0)

    def reset_noise(self) -> None:
        """Forget the noise that is held; the next sample draws anew."""
        self._noise = torch.empty(0, *self.log_std.shape)
        self._age = 0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # States of earlier versions hold no noise: it is drawn anew.
        state_dict.setdefault(f"{prefix}_extra_state", {"noise": torch.empty(0, *self.log_std.shape), "age": 0})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _deviation(self, z: Tensor) -> Tensor:
        """Return E^T z with a noise matrix of its own for each row, drawn anew when it has been held long enough."""
        if self._age >= self._noise_steps or len(self._noise) != len(z):
            self._noise, self._age = torch.randn(len(z), *self.log_std.shape), 0
        self._age += 1
        weights = self._noise.to(z) * self.log_std.exp()
        return torch.einsum("nh,nha->na", z, weights).view(-1, *self._action_shape)
