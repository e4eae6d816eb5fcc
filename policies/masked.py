"""Networks that read from the observation which actions are valid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import torch
import torch.nn.functional as F
from gymnasium import spaces
from tianshou.data import Batch
from tianshou.utils.net.common import ActionReprNet, ModuleWithVectorOutput
from torch import Tensor, nn

from trpo_ts.networks import LinearActor, make_trunk
from trpo_ts.networks.entries import entry

__all__ = ["MaskedActor", "WithoutMask", "make_actor", "make_unmasked_trunk"]


def make_unmasked_trunk(
    observation_space: gym.Space[object],
    mask_key: str,
    hidden_sizes: Sequence[int],
    activation: type[nn.Module],
    layer_norm: bool = False,
) -> WithoutMask:
    """Return a trunk that sees all of a Dict observation but the mask. See :func:`trpo_ts.networks.make_trunk`.

    :raises ValueError: when there is no such key, or no other.
    """
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    rest = {key: part for key, part in parts.items() if key != mask_key}
    if mask_key not in parts or not rest:
        raise ValueError(
            f"mask_key must be one of several keys of a Dict observation, got {mask_key!r} for {observation_space}; "
            "let the environment return {'observation': ..., 'action_mask': ...}"
        )
    space = next(iter(rest.values())) if len(rest) == 1 else spaces.Dict(rest)
    return WithoutMask(make_trunk(space, hidden_sizes, activation, layer_norm=layer_norm), tuple(rest))


def make_actor(
    trunk: ModuleWithVectorOutput,
    observation_space: gym.Space[object],
    *,
    logits: int,
    means: int = 0,
    mask_key: str | None,
) -> ActionReprNet[Any]:
    """Return a network from observations to means and logits side by side, ``(N, means + logits)``.

    :param mask_key: the key of the observation under which the mask of the logits is found; None masks nothing.
    :raises ValueError: when the mask has not one number for each logit.
    """
    # Logits keep their gradient where probabilities vanish.
    actor = LinearActor(trunk, means + logits)
    if mask_key is None:
        return actor
    mask = cast(spaces.Dict, observation_space)[mask_key]
    if not isinstance(mask, spaces.Box | spaces.MultiBinary) or math.prod(mask.shape) != logits:
        raise ValueError(
            f"observation_space[{mask_key!r}] must be a MultiBinary or Box with one number for each category of the "
            f"action, {logits} in all, got {mask}"
        )
    return MaskedActor(actor, mask_key, means)


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
        rest = entry(obs, self.keys[0]) if len(self.keys) == 1 else Batch({key: entry(obs, key) for key in self.keys})
        features, state = self.trunk(rest, state)
        return features, state


class MaskedActor(ActionReprNet[Any]):
    r"""An actor whose last outputs are logits, :math:`-\infty` where the observation's mask forbids the action.

    :param actor: the actor without a mask.
    :param mask_key: the observation's key of the mask, shape ``(N, logits)`` when flattened; 0 is invalid.
    :param means: the number of leading outputs that are means.
    """

    def __init__(self, actor: nn.Module, mask_key: str, means: int) -> None:
        super().__init__()
        self.actor = actor
        self.mask_key = mask_key
        self.means = means

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        """Return the outputs and the actor's state."""
        outputs, state = self.actor(obs, state=state, info=info)
        invalid = torch.as_tensor(entry(obs, self.mask_key), device=outputs.device).flatten(1) == 0
        return outputs.masked_fill(F.pad(invalid, (self.means, 0), value=False), -math.inf), state
