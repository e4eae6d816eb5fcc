"""The parameters of a module as one vector."""

from __future__ import annotations

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
