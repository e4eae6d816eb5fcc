"""Chains of layers as one operation: the same values and derivatives of any order, and no other visible effect."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from bodies import Body
from dense import gauss_newton_product
from rollouts import ACT_DIM, OBS_DIM, Actor, make_actor_policy, make_rollout, make_trpo, update
from torch import Tensor, nn

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.distributions.fisher_metric import FisherMetric


class Subclass(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


def networks() -> dict[str, nn.Sequential]:
    torch.manual_seed(0)
    return {
        "tanh": nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)),
        "ends in an activation": nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Sigmoid()),
        "relu": nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)),
        "without bias": nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False)),
        "linear layers only": nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)),
    }


def is_fused(output: Tensor) -> bool:
    return type(output.grad_fn).__name__ == "_ChainBackward"


CHAINS = list(networks())


@pytest.mark.parametrize("name", CHAINS)
def test_values_and_first_derivatives_are_those_of_the_layers(name: str):
    network = networks()[name].double()
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    plain = network(x)
    weights = torch.randn_like(plain)
    wanted = torch.autograd.grad(plain, [x, *network.parameters()], weights)
    with fused_chains(network):
        fused = network(x)
        assert is_fused(fused)
        found = torch.autograd.grad(fused, [x, *network.parameters()], weights)
        with torch.no_grad():
            torch.testing.assert_close(network(x), plain, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(fused, plain, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CHAINS if name != "relu"])
def test_derivatives_of_second_and_third_order(name: str):
    network = networks()[name].double()
    x = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, *network.parameters())

    def function(*_: Tensor) -> Tensor:
        return network(x)

    def first(*_: Tensor) -> tuple[Tensor, ...]:
        output = network(x)
        return torch.autograd.grad(output.square().sum(), inputs, create_graph=True)

    with fused_chains(network):
        assert is_fused(network(x))
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(first, inputs, fast_mode=True)


def test_the_pull_back_is_not_followed_twice_where_the_cotangent_depends_on_the_parameters():
    network = networks()["tanh"].double()
    x = torch.randn(4, 3, dtype=torch.float64)
    parameters = list(network.parameters())

    def hessian_product() -> tuple[Tensor, ...]:
        gradient = torch.autograd.grad(network(x).pow(3).sum(), parameters, create_graph=True)
        return torch.autograd.grad(sum(g.pow(2).sum() for g in gradient), parameters)

    wanted = hessian_product()
    with fused_chains(network):
        torch.testing.assert_close(hessian_product(), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CHAINS)
def test_gauss_newton_products_are_those_of_the_dense_matrix(name: str):
    network = networks()[name].double()
    x = torch.randn(6, 3, dtype=torch.float64)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    jacobian = torch.autograd.functional.jacobian(lambda t: parameters.call(t, x).reshape(-1), theta)
    dense = jacobian.mT @ jacobian / 6
    with fused_chains(network):
        outputs = parameters.call(theta, x)
        assert is_fused(outputs)
        product = gauss_newton_product(FisherMetric((outputs,), tuple, tuple), theta)
        columns = torch.stack([product(e) for e in torch.eye(len(theta), dtype=torch.float64)])
    torch.testing.assert_close(columns, dense, rtol=1e-11, atol=1e-12)


def test_frozen_parameters_get_no_gradient():
    network = networks()["tanh"].double()
    network[0].weight.requires_grad_(False)
    network[2].bias.requires_grad_(False)
    x = torch.randn(6, 3, dtype=torch.float64)
    own = [p for p in network.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(network(x).sum(), own)
    with fused_chains(network):
        network(x).sum().backward()
    torch.testing.assert_close(tuple(p.grad for p in own), wanted)
    assert network[0].weight.grad is None
    assert network[2].bias.grad is None


def test_single_precision_differs_by_rounding_only():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(17, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    x = torch.randn(1024, 17)
    exact = network.double()(x.double()).detach()
    network.float()
    with fused_chains(network):
        found = network(x)
    assert is_fused(found)
    assert float((found - exact).abs().max()) < 2e-6
    layers = float((network(x) - exact).abs().max())
    assert float((found - exact).abs().max()) < 4 * layers


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh()),
        nn.Sequential(nn.Tanh(), nn.Linear(3, 4)),
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Tanh()),
        nn.Sequential(Subclass(3, 4), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4)),
        nn.Sequential(nn.Linear(3, 4), nn.GELU()),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh()),
        nn.Sequential(),
    ],
)
def test_other_networks_stay_as_they_are(network: nn.Sequential):
    network.eval()
    x = torch.randn(5, 3)
    wanted = network(x)
    with fused_chains(network):
        assert "forward" not in vars(network)
        assert torch.equal(network(x), wanted)


def test_layers_with_hooks_stay_as_they_are():
    network = networks()["tanh"]
    seen = []
    network[1].register_forward_hook(lambda module, args, output: seen.append(output))
    with fused_chains(network):
        network(torch.randn(5, 3))
    assert len(seen) == 1


def test_a_layer_whose_forward_pass_was_replaced_stays_as_it_is():
    network = networks()["tanh"]
    network[0].forward = lambda x: 10.0 * F.linear(x, network[0].weight)
    x = torch.randn(5, 3)
    wanted = network(x)
    with fused_chains(network):
        assert torch.equal(network(x), wanted)


def test_hooks_of_the_chain_itself_are_called():
    network = networks()["tanh"]
    seen = []
    network.register_forward_hook(lambda module, args, output: seen.append(output))
    with fused_chains(network):
        network(torch.randn(5, 3))
    assert len(seen) == 1


@pytest.mark.parametrize("shape", [(3,), (2, 5, 3)])
def test_inputs_that_are_no_matrix_take_the_layers(shape: tuple[int, ...]):
    network = networks()["tanh"]
    x = torch.randn(shape)
    with fused_chains(network):
        assert torch.equal(network(x), networks()["tanh"](x))


def test_errors_are_those_of_the_layers():
    network = networks()["tanh"]
    with fused_chains(network), pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        network(torch.randn(5, 4))


def test_the_network_is_restored_after_an_error():
    network = networks()["tanh"]

    def fail() -> None:
        with fused_chains(network):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "forward" not in vars(network)


def test_a_network_that_appears_twice_is_restored():
    network = networks()["tanh"]
    with fused_chains(nn.ModuleList([network, network]), network):
        assert "forward" in vars(network)
    assert "forward" not in vars(network)


def test_transforms_of_torch_func_work():
    network = networks()["tanh"].double()
    x = torch.randn(4, 3, dtype=torch.float64)
    wanted = torch.func.jacrev(network)(x)
    with fused_chains(network):
        torch.testing.assert_close(torch.func.jacrev(network)(x), wanted)
        torch.testing.assert_close(torch.func.vmap(network)(x), network(x))
        _, tangent = torch.func.jvp(network, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.func.jvp(network, (x,), (torch.ones_like(x),))[1])


def test_a_graph_is_freed_with_its_output():
    network = networks()["tanh"]
    gc.disable()
    try:
        with fused_chains(network):
            output = network(torch.randn(5, 3))
            chain = weakref.ref(output.grad_fn.chain)
            (gradient, *_) = torch.autograd.grad(output.sum(), list(network.parameters()), create_graph=True)
            del output, gradient, _
        assert chain() is None
    finally:
        gc.enable()


def test_a_chain_may_have_no_inputs():
    body = Body(lambda s, x: s.net(x[:, :0]), net=nn.Sequential(nn.Linear(0, 4), nn.Tanh(), nn.Linear(4, ACT_DIM)))
    policy = make_actor_policy(actor=Actor(body, -0.5))
    assert update(make_trpo(policy), make_rollout(policy)).accepted == 1.0


def test_a_chain_whose_output_is_changed_in_place_is_an_error_as_without_fusion():
    block, last = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh()), nn.Linear(8, 1)
    with fused_chains(block):
        h = block(torch.randn(5, OBS_DIM))
        h *= 0.5
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            last(h).sum().backward()


def test_a_chain_that_ends_in_a_linear_layer_may_have_its_output_changed_in_place():
    x, block = torch.randn(5, OBS_DIM), nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 2))
    wanted = torch.autograd.grad((0.5 * block(x)).square().sum(), list(block.parameters()))
    with fused_chains(block):
        h = block(x)
        h *= 0.5
        for got, expected in zip(torch.autograd.grad(h.square().sum(), list(block.parameters())), wanted, strict=True):
            torch.testing.assert_close(got, expected)


def test_a_chain_whose_input_is_changed_in_place_is_an_error_as_without_fusion():
    first, block, last = nn.Linear(OBS_DIM, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 1)
    with fused_chains(block):
        h = first(torch.randn(5, OBS_DIM)) + 0.0
        h += block(h)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            last(h).sum().backward()
