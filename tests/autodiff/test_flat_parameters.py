"""The parameters of a module as one vector."""

from __future__ import annotations

from typing import Any

import torch
from dense import dense, gauss_newton_product
from fisher_cases import OBS, leaf_of
from torch import Tensor, nn
from torch.distributions import Categorical

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions.fisher_metric import fisher_metric


class Tied(nn.Module):
    """Two layers that share one weight, a frozen bias, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.second(torch.tanh(self.first(obs))))


def test_shared_frozen_and_unused_parameters_in_a_module():
    torch.manual_seed(0)
    module = Tied().double()
    parameters = FlatParameters(module)
    names = list(parameters.unflatten(parameters.read()))
    assert sorted(names) == ["first.bias", "first.weight", "unused"]
    leaf = leaf_of(parameters.read())
    matrix = dense(gauss_newton_product(fisher_metric(parameters.call(leaf, OBS)), leaf), len(leaf))

    def log_probabilities(theta: Tensor) -> Tensor:
        part = parameters.unflatten(theta)
        hidden = torch.tanh(OBS @ part["first.weight"].mT + part["first.bias"])
        return (hidden @ part["first.weight"].mT + module.second.bias.detach()).log_softmax(-1)

    theta = parameters.read()
    scores = torch.func.jacrev(log_probabilities)(theta)
    expected = torch.einsum("na,nai,naj->ij", log_probabilities(theta).exp(), scores, scores) / len(OBS)
    torch.testing.assert_close(matrix, expected, rtol=1e-10, atol=1e-13)
    assert float(matrix.diagonal().max()) > 1e-3


def test_flat_parameters_read_what_they_wrote_and_calling_changes_nothing():
    module = Tied().double()
    parameters = FlatParameters(module)
    before = parameters.read()
    with torch.no_grad():
        parameters.call(before + 1.0, OBS)
    assert torch.equal(parameters.read(), before)
    parameters.write(before + 1.0)
    assert torch.equal(parameters.read(), before + 1.0)
    assert module.second.weight is module.first.weight


def test_parameters_that_are_one_and_the_same_memory_move_together():
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2, bias=False)).double()
    module[2].weight.data = module[0].weight.data
    parameters = FlatParameters(module)
    theta = parameters.read()
    assert len(theta) == 4
    leaf = leaf_of(theta)
    (gradient,) = torch.autograd.grad(parameters.call(leaf, OBS).sum(), leaf)
    weight = leaf_of(theta).view(2, 2)
    (expected,) = torch.autograd.grad((torch.tanh(OBS @ weight.mT) @ weight.mT).sum(), weight)
    torch.testing.assert_close(gradient, expected.flatten())
    first, second = module[0].weight, module[2].weight
    parameters.write(theta + 1.0)
    assert module[0].weight is first
    assert module[2].weight is second
    assert torch.equal(first, second)


class Doubling(Tensor):
    """A subclass whose products are twice those of its numbers."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        return 2.0 * result.as_subclass(Tensor) if func is torch.matmul else result


def test_parameters_keep_the_subclass_that_computes_with_them():
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 1, dtype=torch.float64).as_subclass(Doubling))

        def forward(self, x: Tensor) -> Tensor:
            return torch.matmul(x, self.weight)

    module = Product()
    parameters = FlatParameters(module)
    torch.testing.assert_close(parameters.call(parameters.read(), OBS), module(OBS).as_subclass(Tensor))
