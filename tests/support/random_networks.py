"""Readers of observations and bodies of networks, from which a random policy and its critic are put together."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from trpo_ts.recurrent.cells import make_cell

WIDTH, INPUTS = 8, 4
EPOCH = 1.7e9
WORDS = 7


def numbers(obs: Any) -> Any:
    """Return the numeric part of an observation that may be a Dict's."""
    return obs.a if hasattr(obs, "a") else obs


def as_tensor(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    return torch.as_tensor(numbers(obs), dtype=dtype)


def scaled(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    return torch.as_tensor(numbers(obs)).to(dtype) / scale


def centred_in_double(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    return ((torch.as_tensor(numbers(obs)).double() - EPOCH) / scale).to(dtype)


def by_numpy(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    array = np.clip(np.asarray(numbers(obs)).astype(np.float64) / scale, -3.0, 3.0)
    return torch.from_numpy(array.copy()).to(dtype)


def in_place(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    return torch.as_tensor(numbers(obs), dtype=dtype).mul_(1.0 / scale)


def in_place_by_numpy(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    array = numbers(obs)
    return torch.as_tensor(np.multiply(array, np.asarray(1.0 / scale, array.dtype), out=array)).to(dtype)


def pixels(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    return torch.as_tensor(numbers(obs)).to(dtype) / 255.0


def words(obs: Any, dtype: torch.dtype, scale: float) -> Tensor:
    return torch.as_tensor(numbers(obs)).long().reshape(-1)


READERS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "numbers": (as_tensor, scaled, by_numpy, in_place, in_place_by_numpy),
    "dict": (as_tensor, scaled, by_numpy, in_place, in_place_by_numpy),
    "epoch": (centred_in_double,),
    "pixels": (pixels,),
    "words": (words,),
}
"""What observations are, and the functions that read them."""


class Residual(nn.Module):
    """Adds what two layers make of an input to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


class Attention(nn.Module):
    """Lets the halves of a vector attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH // 2, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(len(x), 2, WIDTH // 2)
        return self.layer(tokens, tokens, tokens, need_weights=False)[0].reshape(len(x), WIDTH)


class Transformer(nn.Module):
    """A layer of a transformer, which has a faster way in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH // 2, 2, 8, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(len(x), 2, WIDTH // 2)).reshape(len(x), WIDTH)


class OneStep(nn.Module):
    """One step of a recurrent cell of the package, from the state zero."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.cell = make_cell(cell, WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.cell.state_size)
        return self.cell.step(self.cell.input(x), state)[:, :WIDTH]


class Running(nn.Module):
    """Divides by a running deviation, which it updates in training mode."""

    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.deviation = 0.9 * self.deviation + 0.1 * x.detach().abs().mean(0)
        return x / (1e-3 + self.deviation)


class Tied(nn.Module):
    """Uses one weight twice: the object itself, or two parameters in the same memory."""

    def __init__(self, by_memory: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        if by_memory:
            self.second.weight.data = self.first.weight.data
        else:
            self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Listed(nn.Module):
    """Keeps its weights in lists and dictionaries of parameters, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(WIDTH, WIDTH) / 3) for _ in range(2)])
        self.named = nn.ParameterDict({"again": self.weights[0], "bias": nn.Parameter(torch.zeros(WIDTH))})

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weights[0] @ self.weights[1]) @ self.named["again"] + self.named["bias"]


def _layer() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH)


def _old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(_layer())


def _frozen() -> nn.Module:
    return nn.Sequential(_layer().requires_grad_(False), nn.Tanh(), _layer())


def _scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(_layer(), nn.Tanh(), _layer()))  # type: ignore[no-any-return]


BODIES: dict[str, Callable[[], nn.Module]] = {
    "tanh": lambda: nn.Sequential(_layer(), nn.Tanh()),
    "relu": lambda: nn.Sequential(_layer(), nn.ReLU(), _layer(), nn.ReLU()),
    "gelu": lambda: nn.Sequential(_layer(), nn.GELU()),
    "relu in place": lambda: nn.Sequential(_layer(), nn.ReLU(inplace=True), _layer()),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(WIDTH), _layer(), nn.SiLU()),
    "batch norm": lambda: nn.Sequential(_layer(), nn.BatchNorm1d(WIDTH), nn.ReLU()),
    "dropout": lambda: nn.Sequential(_layer(), nn.Dropout(0.3), nn.Tanh()),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(_layer()), nn.Tanh()),
    "old weight norm": lambda: nn.Sequential(_old_weight_norm(), nn.Tanh()),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(_layer()), nn.Tanh()),
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(_layer()), nn.Tanh()),
    "gru": lambda: OneStep("gru"),
    "lstm": lambda: OneStep("lstm"),
    "attention": Attention,
    "transformer": Transformer,
    "residual": lambda: nn.Sequential(Residual(), Residual()),
    "tied": lambda: Tied(by_memory=False),
    "tied by memory": lambda: Tied(by_memory=True),
    "listed": Listed,
    "frozen": _frozen,
    "scripted": _scripted,
    "running": Running,
    "nothing": nn.Identity,
}


class Entry(nn.Module):
    """From what a reader gives to vectors of the bodies' width."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "pixels":
            self.layers: nn.Module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, WIDTH))
        elif kind == "words":
            self.layers = nn.Embedding(WORDS, WIDTH)
        else:
            self.layers = nn.Linear(INPUTS, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Trunk(nn.Module):
    """A reader, an entry and a body."""

    def __init__(self, kind: str, read: Callable[..., Tensor], body: str, dtype: torch.dtype, scale: float) -> None:
        super().__init__()
        self.entry, self.body = Entry(kind), BODIES[body]()
        self.read, self.dtype, self.scale = read, dtype, scale

    def forward(self, obs: Any) -> Tensor:
        return self.body(self.entry(self.read(obs, self.dtype, self.scale)))


class Critic(nn.Module):
    """A trunk and a last layer."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.last = trunk, nn.Linear(WIDTH, 1)

    def forward(self, obs: Any) -> Tensor:
        return self.last(self.trunk(obs))


class Actor(nn.Module):
    """A trunk and the head of a distribution; between them something may disturb the features."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.disturb: Callable[[Tensor], Tensor] = lambda features: features

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Any, Any]:
        return self.head(self.disturb(self.trunk(obs)), obs), state
