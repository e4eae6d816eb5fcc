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


# --- which errors of a product mean that there is no second derivative


class Failing(torch.autograd.Function):
    """A sine whose second derivative is an error of any kind."""

    error: Exception

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return FailingBackward.apply(gradient, *ctx.saved_tensors)


class FailingBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor) -> Tensor:
        return gradient * torch.cos(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise Failing.error


class FailingSine(Sine):
    def forward(self, obs: Any) -> Tensor:
        return self.last(Failing.apply(self.first(obs) * self.scale))


def failing_products(error: Exception, monkeypatch: pytest.MonkeyPatch, factor: float = 1.0) -> tuple[Any, Tensor]:
    """Return the products of a network whose graph fails, with outputs elsewhere that are ``factor`` times its own."""
    monkeypatch.setattr(Failing, "error", error, raising=False)
    torch.manual_seed(3)
    network, x = FailingSine(2).double(), torch.randn(7, OBS_DIM, dtype=torch.float64)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    products = GaussNewton(
        FisherMetric((parameters.call(theta, x),), tuple, tuple),
        [theta],
        outputs_at=lambda moved: (factor * parameters.call(moved[0], x),),
    )
    return products, theta


def test_an_error_of_any_words_is_answered_by_differences_that_agree_with_the_gradient(monkeypatch):
    torch.manual_seed(3)
    reference, x = SineInTorch(2).double(), torch.randn(7, OBS_DIM, dtype=torch.float64)
    products, theta = failing_products(RuntimeError("words of a later release"), monkeypatch)
    own = FlatParameters(reference)
    jacobian = torch.autograd.functional.jacobian(lambda t: own.call(t, x).reshape(-1), theta)
    v = torch.randn_like(theta).detach()
    torch.testing.assert_close(products.of_vector(v), jacobian.mT @ (jacobian @ v) / 7, rtol=1e-7, atol=1e-9)


def test_an_error_is_raised_as_it_is_where_the_differences_do_not_agree_with_the_gradient(monkeypatch):
    products, theta = failing_products(RuntimeError("something else is wrong"), monkeypatch, factor=2.0)
    with pytest.raises(RuntimeError, match="something else is wrong"):
        products.of_vector(torch.ones_like(theta))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory left"), TypeError("a mistake in the network")])
def test_errors_that_say_nothing_of_derivatives_are_raised(error, monkeypatch):
    products, theta = failing_products(error, monkeypatch)
    with pytest.raises(type(error), match=str(error)):
        products.of_vector(torch.ones_like(theta))


def test_a_tensor_that_was_changed_in_place_is_named():
    torch.manual_seed(4)
    network, x = nn.Linear(OBS_DIM, 2).double(), torch.randn(7, OBS_DIM, dtype=torch.float64)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    outputs = parameters.call(theta, x)
    products = GaussNewton(
        FisherMetric((outputs,), tuple, tuple), [theta], outputs_at=lambda moved: (parameters.call(moved[0], x),)
    )
    x.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        products.of_vector(torch.ones_like(theta))


class NaNTwice(torch.autograd.Function):
    """A sine whose second derivative is not a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        factor = torch.cos(x).detach()
        return gradient * factor if not torch.is_grad_enabled() else _NaNBackward.apply(gradient, factor)


class _NaNBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, factor: Tensor) -> Tensor:
        return gradient * factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * torch.nan, None


class NaNSine(Sine):
    def forward(self, obs: Any) -> Tensor:
        return self.last(NaNTwice.apply(self.first(obs) * self.scale))


def test_a_second_derivative_that_is_not_a_number_is_replaced_by_differences():
    torch.manual_seed(5)
    network, reference = NaNSine(2).double(), SineInTorch(2).double()
    reference.load_state_dict(network.state_dict())
    check_products(network, reference, torch.randn(7, OBS_DIM, dtype=torch.float64), tolerance=1e-8)
