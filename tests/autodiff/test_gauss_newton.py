"""Products of networks with operations that cannot be differentiated twice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from once_differentiable import Sine, SineInTorch
from rollouts import (
    ACT_DIM,
    OBS_DIM,
    Actor,
    make_actor_policy,
    make_rollout,
    make_trpo,
    mean_kl,
    parameters_of,
    same,
    update,
)
from torch import Tensor, nn

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.gauss_newton import GaussNewton, NoSecondDerivativeError
from trpo_ts.critics import GaussNewtonFit
from trpo_ts.distributions.fisher_metric import FisherMetric
from trpo_ts.runtime import twice_differentiable


class Attention(nn.Module):
    """Each component of an observation is a token; torch's fused attention has no second derivative."""

    def __init__(self, outputs: int, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, obs: Any) -> Tensor:
        tokens = torch.as_tensor(obs, dtype=self.head.weight.dtype).unsqueeze(-1)
        return self.head(self.layer(self.embedding(tokens)).mean(dim=1))


@pytest.mark.parametrize("body", [Attention, Sine])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_update_learns_and_keeps_its_trust_region(body: type[nn.Module], dtype: torch.dtype):
    torch.manual_seed(0)
    policy = make_actor_policy(actor=Actor(body(ACT_DIM), -0.5), dtype=dtype)
    algorithm = make_trpo(policy, body(1).to(dtype), critic_fit=GaussNewtonFit())
    buffer = make_rollout(policy, n_envs=4, length=32)
    behaviour, critic = copy.deepcopy(policy), parameters_of(algorithm.critic)
    stats = update(algorithm, buffer)
    assert stats.accepted == 1.0
    assert stats.surrogate_improvement > 0.0
    assert mean_kl(behaviour, policy, buffer) <= 0.01 * (1 + 1e-3)
    assert not same(critic, algorithm.critic)


def test_attention_is_multiplied_exactly():
    torch.manual_seed(1)
    network = Attention(2, width=4).double().eval()
    x = torch.randn(5, OBS_DIM, dtype=torch.float64)
    with twice_differentiable(network):
        check_products(network, network, x, tolerance=1e-10)


def test_what_refuses_a_second_derivative_is_multiplied_by_differences():
    torch.manual_seed(2)
    network = Sine(2).double()
    reference = SineInTorch(2).double()
    reference.load_state_dict(network.state_dict())
    check_products(network, reference, torch.randn(7, OBS_DIM, dtype=torch.float64), tolerance=1e-8)


def check_products(network: nn.Module, reference: nn.Module, x: Tensor, tolerance: float) -> None:
    parameters = FlatParameters(reference)
    theta = parameters.read().requires_grad_(True)
    jacobian = torch.autograd.functional.jacobian(lambda t: parameters.call(t, x).reshape(-1), theta)
    own = FlatParameters(network)
    outputs = own.call(theta, x)
    operator = GaussNewton(
        FisherMetric((outputs,), tuple, tuple), [theta], outputs_at=lambda moved: (own.call(moved[0], x),)
    )
    for v in (torch.randn_like(theta), 1e-6 * torch.randn_like(theta), 1e6 * torch.randn_like(theta)):
        wanted = jacobian.mT @ (jacobian @ v) / len(x)
        error = float((operator.of_vector(v) - wanted).norm() / wanted.norm())
        assert error < tolerance
    assert not operator.of_vector(torch.zeros_like(theta)).any()


def test_without_a_way_to_the_outputs_there_is_an_error():
    network = Sine(2)
    outputs = network(torch.randn(4, OBS_DIM))
    operator = GaussNewton(FisherMetric((outputs,), tuple, tuple), list(network.parameters()))
    with pytest.raises(NoSecondDerivativeError, match="cannot be differentiated twice"):
        operator.product(list(network.parameters()))
