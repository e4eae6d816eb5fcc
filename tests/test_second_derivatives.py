"""Networks with operations that cannot be differentiated twice: fused attention, and functions that refuse it."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import torch
from rollouts import (
    ACT_DIM,
    OBS_DIM,
    Actor,
    Mlp,
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
from trpo_ts.kfac.factors import kronecker_factors
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


def test_the_model_has_the_mean_of_a_diagonal_that_it_cannot_probe():
    torch.manual_seed(3)
    network = Sine(1).double()
    x = torch.randn(4000, OBS_DIM, dtype=torch.float64)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    trace = parameters.trace(theta, x)
    moments = kronecker_factors(trace, FisherMetric((trace.output,), tuple, tuple))
    (diagonal,) = moments.diagonal.values()
    # The derivative in the scale is w cos(a s) a, with a the first layer's output.
    first = network.first(x)
    exact = (network.last.weight * torch.cos(first * network.scale) * first).square().mean(dim=0)
    assert len(diagonal) == 6
    assert float(diagonal.std()) == 0.0
    assert 0.2 < float(diagonal.mean() / exact.mean()) < 5.0  # one draw of signs


@pytest.mark.parametrize("flash", [True, False])
def test_attention_gets_a_kernel_that_can_be_differentiated_twice_and_settings_stay(flash):
    def settings():
        cuda = torch.backends.cuda
        return (
            cuda.math_sdp_enabled(),
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.cudnn_sdp_enabled(),
        )

    outside = settings()
    torch.backends.cuda.enable_flash_sdp(flash)
    try:
        before = settings()
        with contextlib.suppress(ZeroDivisionError), twice_differentiable(Mlp((2, 3, 1))):
            assert settings() == (True, False, False, False)
            raise ZeroDivisionError
        assert settings() == before
    finally:
        torch.backends.cuda.enable_flash_sdp(outside[1])


def test_recurrent_layers_get_a_kernel_that_can_be_differentiated_twice_and_settings_stay():
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with twice_differentiable(nn.ModuleList([nn.GRU(2, 3)])):
        assert not torch.backends.cudnn.enabled
    with twice_differentiable(Mlp((2, 3, 1))):
        assert torch.backends.cudnn.enabled == before[0]
    after = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    assert after == before
