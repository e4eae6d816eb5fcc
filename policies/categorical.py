"""Categorical policies for actions that are one choice or several."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from trpo_ts.distributions.masked_categorical import MaskedCategorical
from trpo_ts.policies.masked import make_actor

__all__ = ["CategoricalPolicy", "JointCategorical", "make_categorical_policy"]


def make_categorical_policy(
    trunk: ModuleWithVectorOutput,
    observation_space: gym.Space[object],
    action_space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary,
    *,
    mask_key: str | None,
    deterministic_eval: bool,
) -> ProbabilisticActorPolicy:
    """Return a policy whose network gives the logits of all choices. See :func:`trpo_ts.policies.make_policy`.

    :raises ValueError: for a space without any choice.
    """
    nvec, start = _choices(action_space)
    if nvec.size == 0:
        raise ValueError(f"action_space must hold at least one choice, got {action_space}")
    return CategoricalPolicy(
        actor=make_actor(trunk, observation_space, logits=int(nvec.sum()), mask_key=mask_key),
        dist_fn=JointCategorical(nvec, masked=mask_key is not None),
        start=start,
        deterministic_eval=deterministic_eval,
        action_space=action_space,
        observation_space=observation_space,
    )


def _choices(space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of categories of each component, in the action's shape, and the first of each."""
    if isinstance(space, spaces.Discrete):
        return np.asarray(space.n), np.asarray(space.start)
    if isinstance(space, spaces.MultiBinary):
        return np.full(space.shape, 2), np.zeros(space.shape, dtype=np.int64)
    return space.nvec.astype(np.int64), space.start.astype(np.int64)


class JointCategorical:
    """From the logits of all components side by side to one distribution over whole actions.

    Components with fewer categories than the widest are filled up with impossible ones, so that all of them are
    one tensor.

    :param nvec: the number of categories of each component, in the shape of an action; ``()`` for a single choice.
    :param masked: whether logits may be infinite, from a mask.
    """

    def __init__(self, nvec: np.ndarray, *, masked: bool = False) -> None:
        self.shape, self.width, self.masked = nvec.shape, int(nvec.max()), masked
        self._columns: Tensor | None = None
        if (nvec != self.width).any():
            counts = nvec.reshape(-1, 1)
            place = np.arange(self.width)
            columns = np.where(place < counts, np.cumsum(counts)[:, None] - counts + place, counts.sum())
            self._columns = torch.as_tensor(columns.ravel())

    @property
    def is_one_choice(self) -> bool:
        """Whether the distribution is a plain categorical one over the logits."""
        return not self.shape and not self.masked and self._columns is None

    def __call__(self, logits: Tensor) -> Distribution:
        r"""Return the distributions.

        :param logits: shape ``(N, nvec.sum())``, :math:`-\infty` for an action that is invalid.
        :raises ValueError: when a mask leaves a component without any category.
        """
        logits = self.by_component(logits)
        if self.masked:
            _check_choice(logits)
        kind = MaskedCategorical if self.masked or self._columns is not None else Categorical
        components = kind(logits=logits)
        return Independent(components, len(self.shape)) if self.shape else components

    def by_component(self, logits: Tensor) -> Tensor:
        r"""Return the logits of each component, shape ``(N, ..., width)``, :math:`-\infty` beyond its categories."""
        if self._columns is not None:
            filled = F.pad(logits, (0, 1), value=-math.inf)
            logits = filled.index_select(1, self._columns.to(logits.device))
        return logits.reshape(-1, *self.shape, self.width)


def _check_choice(logits: Tensor) -> None:
    without = logits.amax(-1).isneginf().reshape(len(logits), -1).any(dim=1)
    if bool(without.any()):
        raise ValueError(
            "the observation's action mask must leave every component a valid category, got one without in row "
            f"{int(without.int().argmax())} of {len(logits)}; let the environment end the episode where nothing is left"
        )


class CategoricalPolicy(ProbabilisticActorPolicy):
    """A policy whose actions are category indices from 0, of which the environment gets its own numbering.

    :param start: the first category of each component, as the environment counts.
    """

    def __init__(self, *, start: np.ndarray, action_space: gym.Space[Any], **kwargs: Any) -> None:
        super().__init__(action_space=action_space, action_scaling=False, action_bound_method=None, **kwargs)
        self.start = start

    def map_action(self, act: Any) -> np.ndarray:
        """Return the environment's actions for category indices."""
        return np.asarray(self._action_to_numpy(act) + self.start, dtype=self.action_space.dtype)

    def map_action_inverse(self, act: Any) -> np.ndarray:
        """Return the category indices for the environment's actions."""
        return np.asarray(self._action_to_numpy(act).astype(np.int64) - self.start)
