"""Updates in micro-batches are those in one pass, for networks and families whose sums are taken in another order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MultivariateNormal

from trpo_ts import KFAC
from trpo_ts.critics import CriticTask, GaussNewtonFit, LBFGSFit, OptimizerFit
from trpo_ts.solver import trust_region_update

TOLERANCE = 1e-10
ROWS = 150


class Bag(nn.Module):
    """Embeddings of categories, averaged; its second derivative is taken by differences."""

    def __init__(self, outputs: int, mode: str = "mean") -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(10, 6, mode=mode), nn.Linear(6, outputs)

    def forward(self, obs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bag((obs.abs() * 7).long() % 10)))


class Recurrent(nn.Module):
    """torch's LSTM along the entries of an observation, whose weights have no Kronecker factors."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 6, batch_first=True), nn.Linear(6, outputs)

    def forward(self, obs: Tensor) -> Tensor:
        states, _ = self.lstm(obs.unsqueeze(-1))
        return self.head(states[:, -1])


class Perceptron(nn.Sequential):
    def __init__(self, outputs: int) -> None:
        super().__init__(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs))


class NetworkPolicy(nn.Module):
    def __init__(self, network: nn.Module, family: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.network, self.family = network, family

    def forward(self, obs: Tensor) -> Distribution:
        return self.family(self.network(obs))


def categorical(out: Tensor) -> Distribution:
    return Categorical(logits=out)


def full_covariance(argument: str) -> Callable[[Tensor], Distribution]:
    def family(out: Tensor) -> Distribution:
        a, b, c = (0.3 * out[:, 2:]).unbind(-1)
        rows = [torch.stack([a.exp(), torch.zeros_like(a)], -1), torch.stack([b, c.exp()], -1)]
        factor = torch.stack(rows, -2)
        return MultivariateNormal(out[:, :2], **{argument: factor if argument == "scale_tril" else factor @ factor.mT})

    return family


POLICIES: dict[str, Callable[[], NetworkPolicy]] = {
    "embedding bag": lambda: NetworkPolicy(Bag(3), categorical),
    "embedding bag, sums": lambda: NetworkPolicy(Bag(3, "sum"), categorical),
    "lstm": lambda: NetworkPolicy(Recurrent(3), categorical),
    "factor": lambda: NetworkPolicy(Perceptron(5), full_covariance("scale_tril")),
    "covariance": lambda: NetworkPolicy(Perceptron(5), full_covariance("covariance_matrix")),
    "precision": lambda: NetworkPolicy(Perceptron(5), full_covariance("precision_matrix")),
}
SOLVERS: dict[str, dict[str, Any]] = {
    "default": {},
    "a sample of the rows": {"preconditioner": KFAC(samples=40)},
    "Tianshou's": {"preconditioner": None, "cg_tolerance": 0.0},
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_takes_the_same_step_in_parts(name: str, solver: str):
    for seed in range(2):
        torch.manual_seed(seed)
        policy, obs, adv = POLICIES[name]().double(), torch.randn(ROWS, 3).double(), torch.randn(ROWS).double()
        with torch.no_grad():
            act = policy(obs).sample()
        whole, in_parts = (
            trust_region_update(copy.deepcopy(policy), obs, act, adv, micro_batch_size=size, **SOLVERS[solver])
            for size in (None, 13)
        )
        assert whole.accepted
        torch.testing.assert_close(in_parts.end.theta, whole.end.theta, rtol=0, atol=TOLERANCE)
        assert in_parts.kl == pytest.approx(whole.kl, abs=TOLERANCE)


@pytest.mark.parametrize(
    "fit", [GaussNewtonFit(), OptimizerFit(20, None), LBFGSFit()], ids=lambda fit: type(fit).__name__
)
@pytest.mark.parametrize("network", [Bag, Recurrent], ids=lambda network: network.__name__)
def test_a_critic_is_fitted_alike_in_parts(network: type[nn.Module], fit: Any):
    torch.manual_seed(0)
    critic, obs = network(1).double(), torch.randn(ROWS, 3).double()
    found = []
    for size in (None, 13):
        values = copy.deepcopy(critic)
        fit.fit(CriticTask(values, torch.optim.Adam(values.parameters()), obs, obs.sum(1), size))
        found.append(torch.cat([p.detach().flatten() for p in values.parameters()]))
    assert not torch.equal(found[0], torch.cat([p.detach().flatten() for p in critic.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=TOLERANCE)
