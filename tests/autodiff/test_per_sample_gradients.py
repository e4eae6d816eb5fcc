"""Gradients of one output per sample as outer products: exact where they are used, refused where they are not so."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from rollouts import OBS_DIM, Mlp
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousCritic
from torch import Tensor, nn

from trpo_ts import KFAC
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.autodiff.per_sample_gradients import per_sample_gradients
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.critics import CriticTask, GaussNewtonFit, gauss_newton_fit
from trpo_ts.distributions.fisher_metric import FisherMetric

ROWS = 8


class Module(nn.Module):
    """Layers for `forward` of each subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)


class ByHand(Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu_(self.second(nn.functional.silu(self.first(x))))).squeeze(-1)


class Views(Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(2, -1).view(len(x), 4).sigmoid())

    def __init__(self) -> None:
        super().__init__()
        del self.second


class Residual(Module):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h + self.second(h).tanh())


class Twice(Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.second(self.first(x)).tanh()))


class Mixing(Module):
    def forward(self, x: Tensor) -> Tensor:
        h = self.second(self.first(x).tanh())
        return self.last(h - h.mean(0))


class Turned(Module):
    """What the second layer takes for rows are columns of the first layer's output."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).mT.reshape(len(x), 4)))


class ScaledInPlace(Module):
    def forward(self, x: Tensor) -> Tensor:
        h = self.second(self.first(x).tanh())
        h *= 2.0
        return self.last(h)


class Scale(Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).tanh())) * self.scale


class Unused(Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(0.5 * x)


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 1))
    network[2].weight = network[0].weight
    return network


def frozen(kind: str, layer: int = 0) -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 1))
    for name, parameter in network[layer].named_parameters():
        parameter.requires_grad_(kind not in ("all", name))
    return network


def critic() -> nn.Module:
    return ContinuousCritic(preprocess_net=Net(state_shape=(3,), hidden_sizes=(5, 4)))


FACTORED = {
    "linear": lambda: nn.Linear(3, 1),
    "chain": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)),
    "not fused": lambda: nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Linear(5, 1), nn.Softplus()),
    "in place": lambda: nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(inplace=True), nn.Linear(5, 1)),
    "without bias": lambda: nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), nn.Linear(5, 1, bias=False)),
    "Tianshou's critic": critic,
    "two chains": lambda: nn.Sequential(*(nn.Sequential(nn.Linear(*s), nn.Tanh()) for s in ((3, 4), (4, 1)))),
    "by hand": ByHand,
    "views": Views,
    "frozen bias": lambda: frozen("bias"),
    "frozen first layer": lambda: frozen("all"),
}
OTHERS = {
    "residual": Residual,
    "one layer twice": Twice,
    "rows that mix": Mixing,
    "turned": Turned,
    "scaled in place": ScaledInPlace,
    "a parameter outside of layers": Scale,
    "unused layer": Unused,
    "a layer of its own": lambda: nn.Sequential(Halved(3, 4), nn.Linear(4, 1)),
    "norm": lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)),
    "tied": tied,
    "frozen weight": lambda: frozen("weight"),
    "frozen layer between": lambda: frozen("all", layer=2),
}


def in_double(network: nn.Module, name: str) -> tuple[nn.Module, Tensor, float]:
    """Return the network and an input in float64, with the accuracy to expect; Tianshou's turns all to float32."""
    dtype, rtol = (torch.float32, 1e-6) if name == "Tianshou's critic" else (torch.float64, 1e-12)
    return network.to(dtype), torch.randn(ROWS, 3, dtype=dtype), rtol


def found(network: nn.Module, x: Tensor):
    """Return the gradients, and the outputs with the leaf of all parameters."""
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    forward_pass = parameters.forward_pass(theta, x)
    outputs = forward_pass.value.flatten()
    return per_sample_gradients(outputs, forward_pass), outputs, theta


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", FACTORED)
def test_products_are_those_of_the_jacobian(name, fused):
    torch.manual_seed(0)
    network, x, rtol = in_double(FACTORED[name](), name)
    with fused_chains(*([network] if fused else [])):
        gradients, outputs, theta = found(network, x)
    if name == "frozen first layer" and fused:  # part of the chain, and then no constant in front of it
        assert gradients is None
        return
    assert gradients is not None
    jacobian = torch.stack([torch.autograd.grad(output, theta, retain_graph=True)[0] for output in outputs])
    v, u = torch.randn_like(theta), torch.randn_like(outputs)
    torch.testing.assert_close(gradients.times(v), jacobian @ v, rtol=rtol, atol=rtol)
    torch.testing.assert_close(gradients.transposed_times(u), jacobian.mT @ u, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", OTHERS)
def test_networks_that_are_no_such_path_are_left_to_the_graph(name):
    torch.manual_seed(0)
    gradients, _, _ = found(OTHERS[name]().double(), torch.randn(8, 3, dtype=torch.float64))
    assert gradients is None


@pytest.mark.parametrize("name", [*FACTORED, *OTHERS])
@pytest.mark.parametrize("kfac", [None, KFAC(), KFAC(inner_iterations=1, samples=3)], ids=repr)
def test_the_fit_is_the_same_either_way(name, kfac, monkeypatch):
    torch.manual_seed(0)
    network, x, rtol = in_double({**FACTORED, **OTHERS}[name](), name)
    fit, start = GaussNewtonFit(steps=2, cg_iters=2, preconditioner=kfac), FlatParameters(network).read()
    task = CriticTask(network, torch.optim.Adam(network.parameters()), x, x.sum(1))
    (loss,), rtol = fit.fit(task), 1e4 * rtol
    theta = FlatParameters(network).read()
    FlatParameters(network).write(start)
    monkeypatch.setattr(gauss_newton_fit, "per_sample_gradients", lambda *_: None)
    assert fit.fit(task) == [pytest.approx(loss, rel=rtol)]
    torch.testing.assert_close(FlatParameters(network).read(), theta, rtol=rtol, atol=rtol)


def squared_error_metric(values: Tensor) -> FisherMetric:
    return FisherMetric((values.flatten(),), tuple, tuple)


@examples(60)
@given(
    widths=st.lists(st.integers(1, 6), min_size=0, max_size=3),
    activation=st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU, nn.Identity]),
    bias=st.booleans(),
    rows=st.integers(1, 9),
    samples=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_the_preconditioner_made_from_them_is_that_of_the_graph(widths, activation, bias, rows, samples, seed):
    torch.manual_seed(seed)
    sizes, layers = (OBS_DIM, *widths, 1), []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1], bias=bias), activation()]
    network, x = nn.Sequential(*layers[:-1]).double(), torch.randn(rows, OBS_DIM, dtype=torch.float64)
    kfac = KFAC(samples=samples)
    gradients, _, theta = found(network, x)
    assert gradients is not None
    function = RowFunction(network, lambda chosen: (x[chosen],), rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KFAC, "_preconditioner", lambda self, factors, *_: factors)
        wanted = kfac.fit(function, theta, squared_error_metric, damping=0.1)
        factors = kfac.fit_gradients(gradients, function, damping=0.1)
    assert wanted is not None
    assert not factors.diagonal
    for group, other in zip(factors.groups, wanted.groups, strict=True):
        assert (group.names, group.shapes) == (other.names, other.shapes)
        torch.testing.assert_close(group.input_factor, other.input_factor, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(group.derivative_factor, other.derivative_factor, rtol=1e-12, atol=1e-12)


def test_one_pass_serves_a_large_rollout_too(monkeypatch):
    """The products of a default fit take no graph, and its preconditioner no pass of its own."""
    monkeypatch.setattr(gauss_newton_fit, "GaussNewton", None)
    monkeypatch.setattr(KFAC, "fit", None)
    network, x = Mlp((OBS_DIM, 8, 1)), torch.randn(3000, OBS_DIM)
    task = CriticTask(network, torch.optim.Adam(network.parameters()), x, x.square().sum(1))
    before = float(x.square().sum(1).square().mean())
    assert GaussNewtonFit(steps=3).fit(task)[0] < before
