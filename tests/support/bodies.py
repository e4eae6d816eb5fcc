"""Bodies of networks from submodules and a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rollouts import ACT_DIM, OBS_DIM
from torch import Tensor, nn


class Body(nn.Module):
    """A network's body from submodules and a function of them and the observations."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, obs: Any) -> Tensor:
        return self.function(self, torch.as_tensor(obs, dtype=next(self.parameters()).dtype))


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, ACT_DIM))
