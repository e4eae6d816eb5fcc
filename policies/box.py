"""Policies for continuous actions: a Box of any shape and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast, get_args

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import AbstractContinuousActorProbabilistic, ModuleWithVectorOutput
from torch.distributions import Distribution

from trpo_ts.choices import BoxDistribution, StdKind
from trpo_ts.policies.action_map import ActionMap, centred_map, is_bounded, unit_map
from trpo_ts.policies.beta import BetaActor, beta_distribution
from trpo_ts.policies.gaussian import GaussianActor, diagonal_gaussian
from trpo_ts.policies.gsde import StateDependentExploration
from trpo_ts.validation.parameter_values import check_choice, check_integer, check_real

__all__ = ["BoxPolicy", "BoxSettings", "make_box_policy"]


@dataclass(frozen=True)
class BoxSettings:
    """How continuous actions are distributed; see :func:`trpo_ts.policies.make_policy`."""

    distribution: BoxDistribution
    std: StdKind
    initial_std: float
    min_std: float
    noise_steps: int

    def check(self, space: gym.Space[Any]) -> None:
        """Check the settings, and that they suit the space.

        :raises ValueError: otherwise, with what to do about it.
        """
        check_choice("distribution", self.distribution, get_args(BoxDistribution))
        check_choice("std", self.std, get_args(StdKind))
        check_real("initial_std", self.initial_std, 0.0, low_open=True)
        check_real("min_std", self.min_std, 0.0, self.initial_std, high_open=True)
        check_integer("noise_steps", self.noise_steps, 1)
        if self.min_std and (self.distribution in ("beta", "gsde") or not isinstance(space, spaces.Box)):
            raise ValueError(
                f"min_std is for the Gaussians of a Box of actions, got {self.min_std} for "
                f"distribution={self.distribution!r} and {space}; leave it out"
            )
        if self.std != "free" and self.distribution in ("beta", "gsde"):
            raise ValueError(
                f"std must be 'free' for distribution={self.distribution!r}, got {self.std!r}; leave it out"
            )
        if isinstance(space, spaces.Box):
            self._check_box(space)
        elif (self.distribution, self.std) != ("gaussian", "free"):
            raise ValueError(
                f"distribution and std are for a Box of actions, got {self.distribution!r} and {self.std!r} "
                f"for {space}; leave them out"
            )

    def _check_box(self, space: spaces.Box) -> None:
        if np.prod(space.shape) == 0 or not np.issubdtype(space.dtype, np.floating):
            raise ValueError(
                f"action_space must be a Box of at least one floating-point number, got {space}; "
                "express whole numbers as Discrete or MultiDiscrete with an action wrapper"
            )
        if self.distribution in ("squashed_gaussian", "beta") and not is_bounded(space):
            raise ValueError(
                f"action_space must be bounded on both sides for distribution={self.distribution!r}, got {space}; "
                "take distribution='gaussian', or an action wrapper that sets finite bounds"
            )


def make_box_policy(
    trunk: ModuleWithVectorOutput,
    observation_space: gym.Space[Any],
    action_space: spaces.Box,
    *,
    settings: BoxSettings,
    deterministic_eval: bool,
) -> BoxPolicy:
    """Return a policy over whole actions on a trunk; the settings have been checked."""
    shape, initial_std = action_space.shape, float(settings.initial_std)
    actor: ModuleWithVectorOutput = trunk
    dist_fn: Callable[[Any], Distribution]
    action_map = centred_map(action_space, squash=settings.distribution == "squashed_gaussian")
    if settings.distribution == "beta":
        actor, dist_fn = BetaActor(trunk, shape, initial_std=initial_std), beta_distribution
        action_map = unit_map(action_space)
    elif settings.distribution == "gsde":
        dist_fn = StateDependentExploration(
            trunk.get_output_dim(), shape, initial_std=initial_std, noise_steps=settings.noise_steps
        )
    else:
        state_dependent_std = settings.std == "state_dependent"
        actor = GaussianActor(
            trunk,
            shape,
            initial_std=initial_std,
            min_std=float(settings.min_std),
            state_dependent_std=state_dependent_std,
        )
        dist_fn = diagonal_gaussian
    return BoxPolicy(
        actor=actor,
        dist_fn=dist_fn,
        action_map=action_map,
        action_space=action_space,
        observation_space=observation_space,
        deterministic_eval=deterministic_eval,
    )


class BoxPolicy(ProbabilisticActorPolicy):
    """A policy for a Box of actions of any shape and bounds.

    :param actor: the network from observations to what ``dist_fn`` takes.
    :param dist_fn: gives the joint distribution of whole actions.
    :param action_map: from the policy's actions, which are what the buffer holds, to the environment's.
    :param action_space: the environment's.
    :param observation_space: the environment's.
    :param deterministic_eval: whether the policy acts by its mode outside of training.
    """

    def __init__(
        self,
        *,
        actor: ModuleWithVectorOutput,
        dist_fn: Callable[[Any], Distribution],
        action_map: ActionMap,
        action_space: spaces.Box,
        observation_space: gym.Space[Any],
        deterministic_eval: bool,
    ) -> None:
        super().__init__(
            actor=cast(AbstractContinuousActorProbabilistic, actor),
            dist_fn=dist_fn,
            deterministic_eval=deterministic_eval,
            action_space=action_space,
            observation_space=observation_space,
            action_scaling=False,
            action_bound_method=None,
        )
        self.action_map = action_map

    def map_action(self, act: Any) -> np.ndarray:
        """Return the environment's actions for the policy's, in the space's dtype."""
        sent: np.ndarray = self.action_map(self._action_to_numpy(act)).astype(self.action_space.dtype, copy=False)
        return sent

    def map_action_inverse(self, act: Any) -> np.ndarray:
        """Return the policy's actions for the environment's, as the collector stores random ones."""
        return self.action_map.inverse(self._action_to_numpy(act))
