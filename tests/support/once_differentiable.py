"""Networks with an operation that cannot be differentiated twice."""

from __future__ import annotations

from typing import Any

import torch
from rollouts import OBS_DIM
from torch import Tensor, nn


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.cos(ctx.saved_tensors[0])


class Sine(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.scale = nn.Linear(OBS_DIM, 6), nn.Parameter(torch.ones(6))
        self.last = nn.Linear(6, outputs)

    def forward(self, obs: Any) -> Tensor:
        x = torch.as_tensor(obs, dtype=self.scale.dtype)
        return self.last(OnceDifferentiable.apply(self.first(x) * self.scale))


class SineInTorch(Sine):
    def forward(self, obs: Any) -> Tensor:
        x = torch.as_tensor(obs, dtype=self.scale.dtype)
        return self.last(torch.sin(self.first(x) * self.scale))
