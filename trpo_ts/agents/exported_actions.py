"""From the most probable action of a policy's distribution to the environment's, on tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.algorithm_base import Policy
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import Tensor, nn

from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.policies.action_map import ActionMap
from trpo_ts.policies.box import BoxPolicy
from trpo_ts.policies.categorical import CategoricalPolicy

__all__ = ["exported_actions"]

_NAME = "action"


def exported_actions(policy: ProbabilisticActorPolicy) -> nn.Module:
    """Return the module that does what the policy's ``map_action`` and the environment's wrapper do.

    It takes the policy's actions ``(N, ...)`` and returns the environment's by name.

    :raises ValueError: for a policy that maps actions in its own way.
    """
    space, map_action = policy.action_space, type(policy).map_action
    if isinstance(policy, BoxPolicy) and map_action is BoxPolicy.map_action:
        return _Mapped(policy.action_map, space)
    if isinstance(policy, CategoricalPolicy) and map_action is CategoricalPolicy.map_action:
        return _Numbered(policy.start, space)
    if map_action is not Policy.map_action:
        raise ValueError(f"its class {type(policy).__name__} maps actions in its own way")
    if isinstance(space, FlatAction):
        return _Unflattened(space)
    return _Bounded(policy, space) if isinstance(space, spaces.Box) else _Numbered(np.int64(0), space)


class _Mapped(nn.Module):
    """What an action map does, in double precision as there."""

    offset: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, action_map: ActionMap, space: gym.Space[Any]) -> None:
        super().__init__()
        self._squash, self._dtype = action_map.squash, _dtype(space)
        for name in ("offset", "scale", "low", "high"):
            self.register_buffer(name, torch.tensor(getattr(action_map, name), dtype=torch.float64))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        raw = action.tanh() if self._squash else action
        moved = self.offset + self.scale * raw.double()
        return {_NAME: moved.maximum(self.low).minimum(self.high).to(self._dtype)}


class _Numbered(nn.Module):
    """Category indices as the environment counts."""

    start: Tensor

    def __init__(self, start: Any, space: gym.Space[Any]) -> None:
        super().__init__()
        self._dtype = _dtype(space)
        self.register_buffer("start", torch.tensor(start, dtype=torch.int64))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        return {_NAME: (action + self.start).to(self._dtype)}


class _Bounded(nn.Module):
    """What Tianshou's own ``map_action`` does to a Box of actions."""

    low: Tensor
    width: Tensor

    def __init__(self, policy: ProbabilisticActorPolicy, space: spaces.Box) -> None:
        super().__init__()
        self._bound, self._scaled, self._dtype = policy.action_bound_method, policy.action_scaling, _dtype(space)
        self.register_buffer("low", torch.tensor(space.low, dtype=torch.float64))
        self.register_buffer("width", torch.tensor(space.high - space.low, dtype=torch.float64))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        if self._bound == "clip":
            action = action.clamp(-1.0, 1.0)
        elif self._bound == "tanh":
            action = action.tanh()
        if self._scaled:
            action = self.low + self.width * (action.double() + 1.0) / 2.0
        return {_NAME: action.to(self._dtype)}


class _Unflattened(nn.Module):
    """What :meth:`FlatAction.unflatten` does, for a batch."""

    def __init__(self, space: FlatAction) -> None:
        super().__init__()
        self._reals = space.reals
        self.leaves = nn.ModuleList(_Leaf(name, part) for name, part in _leaves(space.structure, _NAME))

    def forward(self, action: Tensor) -> dict[str, Tensor]:
        rest = {True: action[:, : self._reals], False: action[:, self._reals :]}
        outputs = {}
        for leaf in self.leaves:
            assert isinstance(leaf, _Leaf)
            numbers = rest[leaf.real]
            outputs[leaf.name] = leaf(numbers[:, : leaf.count])
            rest[leaf.real] = numbers[:, leaf.count :]
        return outputs


class _Leaf(nn.Module):
    """A part of a structured action, from numbers ``(N, count)``."""

    low: Tensor
    width: Tensor
    bounded: Tensor
    start: Tensor

    def __init__(self, name: str, space: gym.Space[Any]) -> None:
        super().__init__()
        self.name, self.real, self.count = name, isinstance(space, spaces.Box), math.prod(space.shape or ())
        self._shape, self._dtype = space.shape or (), _dtype(space)
        if isinstance(space, spaces.Box):
            with np.errstate(over="ignore", invalid="ignore"):  # bounds at the end of the floating range are none
                width = (space.high - space.low).astype(np.float64)
            bounded = np.isfinite(width)
            self.register_buffer("bounded", torch.tensor(bounded))
            self.register_buffer("low", torch.tensor(np.where(bounded, space.low, 0.0), dtype=torch.float64))
            self.register_buffer("width", torch.tensor(np.where(bounded, width, 0.0)))
        else:
            start = getattr(space, "start", 0)  # a MultiBinary has none
            self.register_buffer("start", torch.tensor(start, dtype=torch.int64))

    def forward(self, numbers: Tensor) -> Tensor:
        numbers = numbers.reshape(-1, *self._shape)
        if not self.real:
            return (numbers.round().long() + self.start).to(self._dtype)
        unit = numbers.double()
        within = (self.low + self.width * (unit + 1.0) / 2.0).maximum(self.low).minimum(self.low + self.width)
        return torch.where(self.bounded, within, unit).to(self._dtype)


def _leaves(space: gym.Space[Any], name: str) -> Iterator[tuple[str, gym.Space[Any]]]:
    """Yield the parts of a structured action by name, in the order in which flat actions have them."""
    parts: Any = ()
    if isinstance(space, spaces.Dict):
        parts = space.spaces.items()
    elif isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
    else:
        yield name, space
    for key, part in parts:
        yield from _leaves(part, f"{name}.{key}")


def _dtype(space: gym.Space[Any]) -> torch.dtype:
    return torch.as_tensor(np.zeros(0, space.dtype)).dtype
