"""An actor's forward pass as a list of operations.

On sixteen observations, the calls of a perceptron's modules take longer than its matrix products. During a collect the
parameters do not change, so what depends on them alone is computed once. Nothing here has a graph, since parameters are
detached: entering ``torch.inference_mode`` at each step would take as long as two of the layers. The numbers are those
of the modules, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo_ts.autodiff.watched_modules import has_forward_of, is_watched
from trpo_ts.networks.heads import LinearActor
from trpo_ts.networks.numbers import VectorEncoder
from trpo_ts.networks.trunk import Trunk
from trpo_ts.policies.gaussian import FreeStd, GaussianActor

__all__ = ["straight_line"]

Operation = Callable[[Any], Any]


def straight_line(actor: nn.Module) -> Operation | None:
    """Return what maps observations to the actor's output, without its state; None for actors of other classes.

    The output is good until the next call.

    :param actor: the actor, whose parameters must stay as they are while the result is used.
    """
    if type(actor) not in (GaussianActor, LinearActor) or is_watched(actor):
        return None
    trunk = actor.preprocess
    if type(trunk) is not Trunk or is_watched(trunk) or is_watched(trunk.layers):
        return None
    encode = _encoder(trunk)
    layers = [_operation(layer) for layer in trunk.layers]
    if type(actor) is LinearActor:
        return partial(_composed, [encode, *layers, _operation(actor.last)])
    assert isinstance(actor, GaussianActor)
    return partial(
        _gaussian, partial(_composed, [encode, *layers]), _operation(actor.mu), _deviation(actor), actor._action_shape
    )


def _composed(operations: list[Operation], value: Any) -> Any:
    for operation in operations:
        value = operation(value)
    return value


def _operation(layer: nn.Module) -> Operation:
    if has_forward_of(nn.Linear, layer) and layer.bias is not None:
        return _Linear(layer)
    return torch.tanh_ if has_forward_of(nn.Tanh, layer) else torch.no_grad()(layer)


class _Linear:
    """A linear layer whose results are written over those of the step before."""

    def __init__(self, layer: Any) -> None:
        self._weight, self._bias = layer.weight.detach().t(), layer.bias.detach()
        self._results: dict[int, Tensor] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        result = self._results.get(len(inputs))
        if result is None:
            result = self._results[len(inputs)] = inputs.new_empty(len(inputs), len(self._bias))
        return torch.addmm(self._bias, inputs, self._weight, out=result)


def _encoder(trunk: Trunk) -> Operation:
    encoder, like = trunk.encoder, next(trunk.layers.parameters())

    @torch.no_grad()
    def encoded(obs: Any) -> Tensor:
        vectors: Tensor = encoder(obs, like)
        return vectors.clone()  # tanh_ may change it

    if not (
        type(encoder) is VectorEncoder
        and encoder.scale is None
        and not is_watched(encoder)
        and like.device.type == "cpu"
        and like.dtype is torch.float32
    ):
        return encoded

    def vectors(obs: Any) -> Tensor:
        if type(obs) is not np.ndarray or obs.dtype.kind != "f" or obs.size != len(obs) * encoder.output_dim:
            return encoded(obs)
        return torch.from_numpy(obs.reshape(len(obs), -1).astype(np.float32))

    return vectors


def _deviation(actor: GaussianActor) -> Operation:
    """Return what maps features to standard deviations; those that no feature changes are computed once."""
    if type(actor.sigma) is not FreeStd or is_watched(actor.sigma):
        return torch.no_grad()(actor.sigma)  # of shape (N, count), as the mean
    deviation = actor.sigma.std().detach().view(actor._action_shape)
    rows: dict[int, Tensor] = {}

    def repeated(features: Tensor) -> Tensor:
        count = len(features)
        if count not in rows:
            rows[count] = deviation.expand(count, *deviation.shape)
        return rows[count]

    return repeated


def _gaussian(
    features_of: Operation, mean: Operation, deviation: Operation, shape: tuple[int, ...], obs: Any
) -> tuple[Tensor, Tensor]:
    features = features_of(obs)
    loc, scale = mean(features), deviation(features)
    return (loc, scale) if len(shape) == 1 else (loc.view(-1, *shape), scale.view(-1, *shape))
