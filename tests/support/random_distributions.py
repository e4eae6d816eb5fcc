"""Heads of random policies: each makes of features what one of torch's distributions is built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from random_networks import WIDTH
from torch import Tensor, nn
from torch import distributions as td

from trpo_ts.distributions.product import Product

ACTIONS, CHOICES = 2, 3
TANH, EXP = td.TanhTransform(cache_size=1), td.ExpTransform()


class Head(nn.Module):
    """Linear layers on the features, and a function of their outputs and the observations."""

    def __init__(self, sizes: tuple[int, ...], finish: Callable[..., Any], std: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, size) for size in sizes)
        self.log_std = nn.Parameter(torch.full((1,), float(np.log(std))))
        self.finish = finish

    def forward(self, features: Tensor, obs: Any) -> Any:
        return self.finish([layer(features) for layer in self.layers], self.log_std.exp(), obs)


@dataclass(frozen=True)
class Family:
    """How a distribution is made, from layers of some sizes, for actions of a space."""

    sizes: tuple[int, ...]
    finish: Callable[..., Any]
    dist_fn: Callable[[Any], td.Distribution]
    space: Callable[[], spaces.Space[Any]]
    refused: bool = False
    needs_mask: bool = False


def box() -> spaces.Space[Any]:
    return spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)


def grid() -> spaces.Space[Any]:
    return spaces.Box(-1.0, 1.0, (ACTIONS, CHOICES), np.float32)


def discrete() -> spaces.Space[Any]:
    return spaces.Discrete(CHOICES)


def flags() -> spaces.Space[Any]:
    return spaces.MultiBinary(ACTIONS)


def loc_scale(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    return outputs[0], std.expand_as(outputs[0])


def state_dependent(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    return outputs[0], std * (0.1 + F.softplus(outputs[1]))


def positive(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    found = tuple(0.1 + F.softplus(output) for output in outputs)
    return found if len(found) > 1 else found[0]  # Tianshou's batches hold no tuple of one tensor


def logits(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    return outputs[0]


def masked(value: float) -> Callable[..., Tensor]:
    def finish(outputs: list[Tensor], std: Tensor, obs: Any) -> Tensor:
        return outputs[0].masked_fill(~torch.as_tensor(obs.mask).bool(), value)

    return finish


def triangular(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    eye = torch.eye(ACTIONS, dtype=outputs[0].dtype)
    lower = outputs[1].view(-1, ACTIONS, ACTIONS).tril(-1)
    return torch.cat([outputs[0], (std.unsqueeze(-1) * (eye + lower)).flatten(1)], 1)


def nested(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    mean = outputs[0].view(-1, ACTIONS, CHOICES)
    return mean, std.expand_as(mean)


def product(outputs: list[Tensor], std: Tensor, obs: Any) -> Any:
    return outputs[0], std.expand_as(outputs[0]), outputs[1]


def joint(kind: Callable[..., td.Distribution], count: int = 1) -> Callable[[Any], td.Distribution]:
    """Return a function that makes a joint distribution of independent components."""

    def make(parameters: Any) -> td.Distribution:
        parts = parameters if isinstance(parameters, tuple) else (parameters,)
        return td.Independent(kind(*parts), count)

    return make


def transformed(transform: td.Transform) -> Callable[[Any], td.Distribution]:
    return lambda p: td.Independent(td.TransformedDistribution(td.Normal(*p), [transform]), 1)


def product_of(parameters: Any) -> td.Distribution:
    mean, std, bits = parameters
    return Product([td.Independent(td.Normal(mean, std), 1), td.Independent(td.Bernoulli(logits=bits), 1)])


def multivariate(parameters: Tensor) -> td.Distribution:
    mean, factor = parameters.split([ACTIONS, ACTIONS**2], 1)
    return td.MultivariateNormal(mean, scale_tril=factor.view(-1, ACTIONS, ACTIONS).tril())


def student(parameters: Any) -> td.Distribution:
    return td.Independent(td.StudentT(torch.tensor(5.0), *parameters), 1)


TWO, CHOICE = (ACTIONS,), (CHOICES,)
FAMILIES: dict[str, Family] = {
    "normal": Family(TWO, loc_scale, joint(td.Normal), box),
    "state-dependent normal": Family(TWO * 2, state_dependent, joint(td.Normal), box),
    "laplace": Family(TWO, loc_scale, joint(td.Laplace), box),
    "gumbel": Family(TWO, loc_scale, joint(td.Gumbel), box),
    "beta": Family(TWO * 2, positive, joint(td.Beta), box),
    "gamma": Family(TWO * 2, positive, joint(td.Gamma), box),
    "exponential": Family(TWO, positive, joint(td.Exponential), box),
    "lognormal": Family(TWO, loc_scale, joint(td.LogNormal), box),
    "tanh normal": Family(TWO, loc_scale, transformed(TANH), box),
    "exp normal": Family(TWO, loc_scale, transformed(EXP), box),
    "dirichlet": Family(CHOICE, positive, lambda p: td.Dirichlet(p), lambda: spaces.Box(0.0, 1.0, CHOICE)),
    "multivariate": Family((ACTIONS, ACTIONS**2), triangular, multivariate, box),
    "low rank": Family(
        TWO * 2,
        state_dependent,
        lambda p: td.LowRankMultivariateNormal(p[0], 0.1 * p[1].unsqueeze(-1), p[1].square()),
        box,
    ),
    "nested": Family((ACTIONS * CHOICES,), nested, lambda p: td.Independent(joint(td.Normal)(p), 1), grid),
    "product": Family(TWO * 2, product, product_of, lambda: spaces.Box(-1.0, 1.0, (2 * ACTIONS,), np.float32)),
    "categorical": Family(CHOICE, logits, lambda p: td.Categorical(logits=p), discrete),
    "probabilities": Family(CHOICE, lambda o, s, x: o[0].softmax(-1), lambda p: td.Categorical(p), discrete),
    "masked by infinity": Family(
        CHOICE, masked(-torch.inf), lambda p: td.Categorical(logits=p), discrete, needs_mask=True
    ),
    "masked by -1e8": Family(CHOICE, masked(-1e8), lambda p: td.Categorical(logits=p), discrete, needs_mask=True),
    "one hot": Family(CHOICE, logits, lambda p: td.OneHotCategorical(logits=p), lambda: spaces.Box(0.0, 1.0, CHOICE)),
    "bernoulli": Family(TWO, logits, lambda p: td.Independent(td.Bernoulli(logits=p), 1), flags),
    "poisson": Family(TWO, positive, joint(td.Poisson), box),
    "student": Family(TWO, loc_scale, student, box, refused=True),
    "not joint": Family(TWO, loc_scale, lambda p: td.Normal(*p), box, refused=True),
}
WITHOUT_ENTROPY = ("exp normal", "tanh normal", "poisson")
