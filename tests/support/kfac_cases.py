"""Networks, their forward passes and the preconditioners made of them."""

from __future__ import annotations

import torch
from rollouts import OBS_DIM
from torch import Tensor, nn

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.distributions.fisher_metric import FisherMetric, fisher_metric
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner


def evaluated(module: nn.Module, *args, metric_of=fisher_metric):
    parameters = FlatParameters(module)
    theta = parameters.read().requires_grad_(True)
    forward_pass = parameters.forward_pass(theta, *args)
    return parameters, theta, forward_pass, metric_of(forward_pass.value)


def row_function(module: nn.Module, obs: Tensor, *others, **settings) -> RowFunction:
    return RowFunction(module, lambda rows: (obs[rows], *others), len(obs), **settings)


def identity_metric(output: Tensor) -> FisherMetric:
    return FisherMetric((output,), tuple, tuple)


def preconditioner_of(parameters, forward_pass, metric, damping, inner_iterations=4) -> KroneckerPreconditioner:
    return KroneckerPreconditioner(
        kronecker_factors(forward_pass, metric), parameters.slices, damping=damping, inner_iterations=inner_iterations
    )


def obs_of(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, OBS_DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Convolutional(nn.Module):
    """Two convolutions, one with padding and stride, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1, stride=2)
        self.second = nn.Conv2d(3, 2, 2)
        self.head = nn.Linear(8, 1)

    def forward(self, obs: Tensor) -> Tensor:
        x = torch.tanh(self.second(torch.tanh(self.first(obs))))
        return self.head(x.flatten(1))
