"""Networks that read from the observation which actions are valid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from tianshou.data import Batch
from tianshou.utils.net.common import ActionReprNet, ModuleWithVectorOutput
from tianshou.utils.net.discrete import DiscreteActor
from torch import Tensor, nn

from trpo_ts.networks import initialise_orthogonal, make_trunk

__all__ = ["MaskedActor", "WithoutMask", "make_actor"]


def make_actor(
    observation_space: gym.Space[object],
    *,
    means: int,
    logits: int,
    mask_key: str | None,
    hidden_sizes: Sequence[int],
    activation: type[nn.Module],
) -> ActionReprNet[Any]:
    """Return a network from observations to means and logits side by side, ``(N, means + logits)``.

    :param mask_key: the key of a Dict observation under which the mask of the logits is found; None masks nothing.
    :raises ValueError: when there is no such mask, or not of the logits' number.
    """
    if mask_key is None:
        trunk: ModuleWithVectorOutput = make_trunk(observation_space, hidden_sizes, activation)
    else:
        rest = _without_mask(observation_space, mask_key, logits)
        space = next(iter(rest.values())) if len(rest) == 1 else spaces.Dict(rest)
        trunk = WithoutMask(make_trunk(space, hidden_sizes, activation), tuple(rest))
    # Logits keep their gradient where probabilities vanish.
    actor = DiscreteActor(preprocess_net=trunk, action_shape=means + logits, softmax_output=False)
    initialise_orthogonal(actor, actor.last, head_gain=0.01)
    return actor if mask_key is None else MaskedActor(actor, mask_key)


def _without_mask(space: gym.Space[object], mask_key: str, logits: int) -> dict[str, gym.Space[object]]:
    if not isinstance(space, spaces.Dict) or mask_key not in space.spaces or len(space.spaces) == 1:
        raise ValueError(
            f"mask_key must be a key of a Dict observation that has others, got {mask_key!r} for {space}; "
            "let the environment return {'observation': ..., 'action_mask': ...}"
        )
    mask = space[mask_key]
    if not isinstance(mask, spaces.Box | spaces.MultiBinary) or int(np.prod(mask.shape)) != logits:
        raise ValueError(
            f"observation_space[{mask_key!r}] must be a MultiBinary or Box with one number for each category of the "
            f"action, {logits} in all, got {mask}"
        )
    return {key: part for key, part in space.spaces.items() if key != mask_key}


class WithoutMask(ModuleWithVectorOutput):
    """A trunk that sees Dict observations without their mask.

    :param trunk: the trunk for the rest, or for the one array that the rest is.
    :param keys: the keys of the rest.
    """

    def __init__(self, trunk: ModuleWithVectorOutput, keys: Sequence[str]) -> None:
        super().__init__(trunk.get_output_dim())
        self.trunk = trunk
        self.keys = tuple(keys)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        """Return the trunk's features and its state."""
        rest = obs[self.keys[0]] if len(self.keys) == 1 else Batch({key: obs[key] for key in self.keys})
        features, state = self.trunk(rest, state)
        return features, state


class MaskedActor(ActionReprNet[Any]):
    r"""An actor whose last outputs are logits, :math:`-\infty` where the observation's mask forbids the action.

    :param actor: the actor without a mask.
    :param mask_key: the observation's key of the mask, shape ``(N, logits)`` when flattened; 0 is invalid.
    """

    def __init__(self, actor: nn.Module, mask_key: str) -> None:
        super().__init__()
        self.actor = actor
        self.mask_key = mask_key

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs and the actor's state."""
        outputs, state = self.actor(obs, state=state, info=info)
        invalid = torch.as_tensor(obs[self.mask_key], device=outputs.device).flatten(1) == 0
        invalid = F.pad(invalid, (outputs.shape[-1] - invalid.shape[-1], 0), value=False)  # not the means
        return outputs.masked_fill(invalid, -math.inf), state
