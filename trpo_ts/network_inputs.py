"""How an update gives observations to a network: as acting did, bit for bit.

While a policy acts, it is given what the environments return: NumPy arrays in their own dtype, or nested batches of
such. A network may do anything with them, such as centring float64 timestamps before it rounds to float32, or working
in place. So in the update, too, a network is given arrays, each pass its own copy. Networks that are known to convert
their input to a tensor of their dtype first, and to change nothing, are given that tensor, made once for all passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tianshou.data import Batch
from tianshou.utils.net.common import MLP, Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from torch import Tensor, nn

from trpo_ts.autodiff.rows import Rows
from trpo_ts.autodiff.watched_modules import is_watched
from trpo_ts.critics.recurrent_critic import RecurrentCritic
from trpo_ts.critics.value_network import ValueNetwork
from trpo_ts.networks.heads import LinearActor
from trpo_ts.networks.numbers import Encoder
from trpo_ts.networks.trunk import Trunk
from trpo_ts.policies.beta import BetaActor
from trpo_ts.policies.flat_action_policy import FlatActor
from trpo_ts.policies.gaussian import GaussianActor
from trpo_ts.policies.masked import MaskedActor, WithoutMask
from trpo_ts.policies.recurrent_policy import RecurrentActor
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk
from trpo_ts.recurrent.sequences import SequencedObs, Sequences
from trpo_ts.uncompiled import original

__all__ = ["CopiedObs", "NetworkInput", "as_tensors", "copied", "rows_of", "takes_tensors"]

_FIRST_NETWORK: dict[type[nn.Module], str] = {
    GaussianActor: "preprocess",
    BetaActor: "preprocess",
    LinearActor: "preprocess",
    FlatActor: "actor",
    MaskedActor: "actor",
    WithoutMask: "trunk",
    RecurrentActor: "trunk",
    RecurrentTrunk: "encoder",
    RecurrentCritic: "trunk",
    ValueNetwork: "preprocess",
    Trunk: "encoder",
    ContinuousActorProbabilistic: "preprocess",
    DiscreteActor: "preprocess",
    ContinuousCritic: "preprocess",
    DiscreteCritic: "preprocess",
    Net: "model",
}
"""For the classes that hand their observations to another network, the attribute that is that network."""


def takes_tensors(network: nn.Module) -> bool:
    """Whether a network is known to do the same with tensors of its dtype as with arrays, and not to change them."""
    module: Any = network
    while True:
        if not isinstance(module, nn.Module):
            return False
        module = original(module)
        if is_watched(module):
            return False
        if type(module) is MLP:
            return type(next(iter(module.model), None)) is nn.Linear
        if isinstance(module, Encoder):
            return type(module).__module__.startswith("trpo_ts.")
        if type(module) not in _FIRST_NETWORK:
            return False
        module = getattr(module, _FIRST_NETWORK[type(module)])


class NetworkInput:
    """The observations of a rollout as one network takes them; indexing gives those of some rows.

    :param network: the network.
    :param obs: the observations as recorded.
    :param device: the network's device.
    :param dtype: the network's floating dtype.
    """

    def __init__(self, network: nn.Module, obs: Any, *, device: torch.device, dtype: torch.dtype) -> None:
        self._own_copies = not takes_tensors(network)
        self.value = obs if self._own_copies else as_tensors(obs, device, dtype)

    def __getitem__(self, rows: Rows) -> Any:
        """Return the observations of some rows."""
        chosen = rows_of(self.value, rows)
        # Indices make a copy, slices a view.
        return copied(chosen) if self._own_copies and isinstance(rows, slice) else chosen

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.value)

    def in_sequences(self, sequences: Sequences) -> SequencedObs:
        """Return the observations in their sequences; of these, too, a network that needs it gets copies."""
        kind = CopiedObs if self._own_copies else SequencedObs
        return kind(obs=self.value, sequences=sequences)


class CopiedObs(SequencedObs):
    """Observations in their sequences, of which each choice of rows is a copy: a slice would be a view otherwise."""

    def __getitem__(self, index: Any) -> Any:
        """Return the observations of some rows."""
        item = super().__getitem__(index)
        if isinstance(index, slice):
            item.obs = copied(item.obs)
        return item


def rows_of(value: Any, rows: Rows) -> Any:
    """Return rows of arrays, tensors, or nested batches of them, by a slice or by a tensor of indices."""
    if isinstance(rows, Tensor) and not isinstance(value, Tensor):
        if isinstance(value, Batch):
            chosen = type(value)()
            for key, item in value.items():
                chosen.__dict__[key] = rows_of(item, rows)
            return chosen
        return value[rows.cpu().numpy()]
    return value[rows]


def copied(value: Any) -> Any:
    """Return a copy of arrays, tensors, or nested batches of them."""
    if isinstance(value, Batch):
        duplicate = type(value)()
        for key, item in value.items():
            duplicate.__dict__[key] = copied(item)
        return duplicate
    if isinstance(value, Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def as_tensors(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return arrays, or nested batches of arrays, as tensors; floating ones in the given dtype.

    Integers (images, categories) keep their dtype. What is no numeric array is returned as it is.
    """
    if isinstance(value, Batch):
        return Batch({key: as_tensors(item, device, dtype) for key, item in value.items()})
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return value
