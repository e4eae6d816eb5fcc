"""An actor's forward pass as a list of operations.

On sixteen observations, the calls of a perceptron's modules take longer than its matrix products. During a collect the
parameters do not change, so each operation is bound to its weights and to the memory that it reads and writes, once for
each number of observations. Nothing here has a graph, since parameters are detached: entering ``torch.inference_mode``
at each step would take as long as two of the layers. The numbers are those of the modules, bit for bit.
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


def straight_line(actor: nn.Module) -> Callable[[Any], Any] | None:
    """Return what maps observations to the actor's output, without its state; None for actors of other classes.

    The output is good until the next call.

    :param actor: the actor, whose parameters must stay as they are while the result is used.
    """
    if type(actor) not in (GaussianActor, LinearActor) or is_watched(actor):
        return None
    trunk = actor.preprocess
    if type(trunk) is not Trunk or is_watched(trunk) or is_watched(trunk.layers):
        return None
    if next(trunk.layers.parameters()).device.type != "cpu":
        return None
    return _StraightLine(actor)


class _StraightLine:
    """The passes of an actor, by the number of their observations."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._passes: dict[int, _Pass] = {}

    def __call__(self, obs: Any) -> Any:
        known = self._passes.get(len(obs))
        if known is None:
            known = self._passes[len(obs)] = _Pass(self._actor, obs)
            return known.output()
        return known(obs)


class _Pass:
    """The operations on so many observations, which have run once when the pass has been made.

    :param actor: the actor.
    :param obs: the first observations.
    """

    def __init__(self, actor: Any, obs: Any) -> None:
        self._operations: list[Callable[[], Tensor]] = []
        trunk = actor.preprocess
        self._encode, features = _encoder(trunk, obs)
        for layer in trunk.layers:
            features = self._then(layer, features)
        self.output = self._output_of(actor, features)

    def __call__(self, obs: Any) -> Any:
        self._encode(obs)
        for operation in self._operations:
            operation()
        return self.output()

    def _output_of(self, actor: Any, features: Tensor) -> Callable[[], Any]:
        """Append the operations behind the features, and return what gives the output after all have run."""
        if type(actor) is LinearActor:
            numbers = self._then(actor.last, features)
            return lambda: numbers
        shape = (len(features), *actor._action_shape)
        mean, deviation = self._then(actor.mu, features).view(shape), torch.no_grad()(actor.sigma)
        if type(actor.sigma) is not FreeStd or is_watched(actor.sigma):
            return lambda: (mean, deviation(features).reshape(shape))
        mean_and_constant = mean, deviation(features).reshape(shape)
        return lambda: mean_and_constant

    def _then(self, layer: Any, inputs: Tensor) -> Tensor:
        """Append a layer's operation, run it, and return where it writes its results."""
        if has_forward_of(nn.Linear, layer) and layer.bias is not None:
            results = inputs.new_empty(len(inputs), layer.out_features)
            weight = layer.weight.detach().t()
            operation: Callable[[], Tensor] = partial(torch.addmm, layer.bias.detach(), inputs, weight, out=results)
        elif has_forward_of(nn.Tanh, layer):
            operation = partial(torch.tanh_, inputs)  # nobody else reads them
        else:
            call = torch.no_grad()(layer)
            memory: Tensor = call(inputs).clone()
            self._operations.append(lambda: memory.copy_(call(inputs)))
            return memory
        self._operations.append(operation)
        return operation()


def _encoder(trunk: Trunk, obs: Any) -> tuple[Callable[[Any], Any], Tensor]:
    """Return what writes the vectors of observations into memory, and the memory, which holds those of ``obs``."""
    encoder, like = trunk.encoder, next(trunk.layers.parameters())
    encoded = torch.no_grad()(partial(encoder, like=like))
    vectors = encoded(obs).clone()

    def encode(obs: Any) -> None:
        vectors.copy_(encoded(obs))

    if type(encoder) is not VectorEncoder or encoder.scale is not None or is_watched(encoder):
        return encode, vectors
    if like.dtype is not torch.float32:
        return encode, vectors
    memory = vectors.numpy()

    def copy(obs: Any) -> None:
        if type(obs) is np.ndarray and obs.dtype.kind == "f" and obs.size == memory.size:
            np.copyto(memory, obs.reshape(memory.shape), casting="same_kind")
        else:
            encode(obs)

    return copy, vectors
