"""Policies for structured actions in flat form: real numbers and categories in one joint distribution."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import ActionReprNet, ModuleWithVectorOutput
from torch import Tensor, nn
from torch.distributions import Distribution

from trpo_ts.distributions.product import Product
from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.policies.categorical import JointCategorical
from trpo_ts.policies.gaussian import diagonal_gaussian
from trpo_ts.policies.masked import make_actor
from trpo_ts.validation.parameter_values import check_real

__all__ = ["FlatActor", "FlatDistribution", "make_flat_action_policy"]


def make_flat_action_policy(
    trunk: ModuleWithVectorOutput,
    observation_space: gym.Space[object],
    action_space: FlatAction,
    *,
    mask_key: str | None,
    initial_std: float,
    deterministic_eval: bool,
) -> ProbabilisticActorPolicy:
    """Return a policy with a Gaussian over the real numbers and a categorical distribution over each index.

    Given the observation they are independent. Standard deviations are free parameters. Clipping and scaling are
    the environment wrapper's. See :func:`trpo_ts.policies.make_policy`.
    """
    check_real("initial_std", initial_std, 0.0, low_open=True)
    logits = int(action_space.nvec.sum())
    actor = make_actor(trunk, observation_space, means=action_space.reals, logits=logits, mask_key=mask_key)
    categorical = JointCategorical(action_space.nvec, masked=mask_key is not None) if len(action_space.nvec) else None
    return ProbabilisticActorPolicy(
        actor=FlatActor(actor, action_space.reals, initial_std),
        dist_fn=FlatDistribution(action_space.reals, categorical),
        deterministic_eval=deterministic_eval,
        action_space=action_space,
        observation_space=observation_space,
        action_scaling=False,
        action_bound_method=None,
    )


class FlatActor(ActionReprNet[Any]):
    """An actor that gives means, standard deviations and logits.

    :param actor: gives means and logits side by side.
    :param reals: the number of means.
    :param initial_std: the standard deviations at the start.
    """

    def __init__(self, actor: nn.Module, reals: int, initial_std: float) -> None:
        super().__init__()
        self.actor = actor
        self.log_std = nn.Parameter(torch.full((reals,), math.log(initial_std)))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        """Return means, standard deviations and logits side by side, ``(N, 2 reals + L)``, and the actor's state."""
        outputs, state = self.actor(obs, state=state, info=info)
        mean, logits = outputs.tensor_split([len(self.log_std)], dim=-1)
        return torch.cat([mean, self.log_std.exp().expand_as(mean), logits], dim=-1), state


class FlatDistribution:
    """From the outputs of :class:`FlatActor` to one distribution over flat actions.

    :param reals: the number of means.
    :param categorical: from logits to the distribution of the indices; None where there is none.
    """

    def __init__(self, reals: int, categorical: JointCategorical | None) -> None:
        self.reals = reals
        self.categorical = categorical

    def __call__(self, outputs: Tensor) -> Distribution:
        """Return the distributions for means, standard deviations and logits side by side."""
        mean, std, logits = outputs.tensor_split([self.reals, 2 * self.reals], dim=-1)
        parts: list[Distribution] = []
        if self.reals:
            parts.append(diagonal_gaussian((mean, std)))
        if self.categorical is not None:
            parts.append(self.categorical(logits))
        return Product(parts)
