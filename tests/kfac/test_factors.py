"""The Kronecker factors: from which passes and rows they are made."""

from __future__ import annotations

import pytest
import torch
from kfac_cases import Convolutional, evaluated, identity_metric, obs_of
from once_differentiable import Sine
from rollouts import OBS_DIM, Actor, Mlp, make_actor_policy
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts import KFAC
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.distributions.fisher_metric import FisherMetric
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.policy_map import PolicyMap


def test_free_standard_deviation_has_its_exact_diagonal():
    torch.manual_seed(2)
    policy = make_actor_policy(hidden=(5,), dtype=torch.float64)
    _, _, forward_pass, metric = evaluated(PolicyMap(policy), obs_of(10), Batch())
    (diagonal,) = kronecker_factors(forward_pass, metric).diagonal.values()
    torch.testing.assert_close(diagonal, torch.full((2,), 2.0, dtype=torch.float64))


def test_convolutions_are_matrices_over_patches():
    torch.manual_seed(6)
    network = Convolutional().double()
    images = torch.randn(7, 1, 6, 6, dtype=torch.float64)
    _, _, forward_pass, metric = evaluated(network, images, metric_of=identity_metric)
    for call, layer in zip(forward_pass.layer_calls[:2], (network.first, network.second), strict=True):
        output = layer(call.input).detach()
        (pairs,) = call.pairs(output - layer.bias.detach().view(1, -1, 1, 1))
        weight = layer.weight.detach().reshape(layer.weight.shape[0], -1)
        torch.testing.assert_close(pairs.inputs @ weight.T, pairs.derivatives)
    names = [group.names for group in kronecker_factors(forward_pass, metric).groups]
    assert names == [("first.",), ("second.",), ("head.",)]  # 9, 4 and 1 rows per sample


def test_global_generator_is_left_alone():
    torch.manual_seed(13)
    policy = make_actor_policy(actor=Actor(Mlp((OBS_DIM, 4, 2)), -0.5))
    _, _, forward_pass, metric = evaluated(PolicyMap(policy), obs_of(10).float(), Batch())
    state = torch.get_rng_state()
    kronecker_factors(forward_pass, metric)
    assert torch.equal(state, torch.get_rng_state())


def test_a_fused_chain_has_the_factors_of_its_layers():
    torch.manual_seed(9)
    network = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    obs = obs_of(40)
    _, _, forward_pass, metric = evaluated(network, obs, metric_of=identity_metric)
    wanted = kronecker_factors(forward_pass, metric)
    with fused_chains(network):
        _, _, forward_pass, metric = evaluated(network, obs, metric_of=identity_metric)
        assert len(forward_pass.layer_calls) == 1
        found = kronecker_factors(forward_pass, metric)
    assert [group.names for group in found.groups] == [group.names for group in wanted.groups]
    for a, b in zip(found.groups, wanted.groups, strict=True):
        torch.testing.assert_close(a.input_factor, b.input_factor)
        torch.testing.assert_close(a.derivative_factor, b.derivative_factor)


class Reshaping(nn.Module):
    """Its second layer sees two rows for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(OBS_DIM, 8), nn.Linear(4, 1)

    def forward(self, obs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(obs)).reshape(-1, 4)).reshape(-1, 2)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 2))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("build", [perceptron, Convolutional, Reshaping])
def test_chosen_rows_of_a_whole_pass_have_the_factors_of_a_pass_of_their_own(build, fused):
    torch.manual_seed(10)
    network = build().double()
    obs = torch.randn(40, 1, 6, 6, dtype=torch.float64) if build is Convolutional else obs_of(40)
    passes: list[list[int]] = []

    def inputs_of(rows):
        passes.append(torch.arange(40)[rows].tolist())
        return (obs[rows],)

    function = RowFunction(network, inputs_of, 40)
    theta = function.parameters.read().requires_grad_(True)
    roots = torch.randn(40, *network(obs).shape[1:], dtype=torch.float64)
    kfac, samples = KFAC(samples=11), torch.arange(11) * 40 // 11

    def metric_of(output: Tensor) -> FisherMetric:
        return FisherMetric((output,), tuple, lambda signs: (roots if len(output) == 40 else roots[samples],))

    with fused_chains(*([network] if fused else [])):
        whole = function.forward_pass(theta, slice(0, 40), record_layers=True)
        passes.clear()
        wanted = kfac._factors(function, theta, metric_of, None)
        found = kfac._factors(function, theta, metric_of, whole)
    # Where a layer's pairs are not one for each row, the whole pass is of no use.
    assert passes == [samples.tolist()] * (2 if build is Reshaping else 1)
    for a, b in zip(found.groups, wanted.groups, strict=True):
        assert a.names == b.names
        torch.testing.assert_close(a.input_factor, b.input_factor)
        torch.testing.assert_close(a.derivative_factor, b.derivative_factor)


class WithGain(nn.Module):
    """Parameters outside of layers as well, whose block is not diagonal."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.gain = perceptron(), nn.Parameter(torch.randn(OBS_DIM))

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(obs * self.gain)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size", [1, 4, 10])
@pytest.mark.parametrize("build", [perceptron, Convolutional, WithGain, Reshaping])
def test_micro_batches_have_the_factors_of_one_pass_over_all_rows(build, size, fused):
    torch.manual_seed(10)
    network = build().double()
    obs = torch.randn(40, 1, 6, 6, dtype=torch.float64) if build is Convolutional else obs_of(40)
    passes: list[int] = []

    def inputs_of(rows: Tensor):
        passes.append(len(rows))
        return (obs[rows],)

    whole, in_parts = (RowFunction(network, inputs_of, 40, micro_batch_size=rows) for rows in (None, size))
    theta = whole.parameters.read().requires_grad_(True)
    with fused_chains(*([network] if fused else [])):
        wanted = KFAC(samples=11)._factors(whole, theta, identity_metric, None)
        passes.clear()
        found = KFAC(samples=11)._factors(in_parts, theta, identity_metric, None)
    # Where a layer's pairs are not one for each row, no micro-batch can be told from the others.
    assert passes == [size, 11] if build is Reshaping else max(passes) == size
    for a, b in zip(found.groups, wanted.groups, strict=True):
        assert a.names == b.names
        torch.testing.assert_close(a.input_factor, b.input_factor)
        torch.testing.assert_close(a.derivative_factor, b.derivative_factor)
    assert found.diagonal.keys() == wanted.diagonal.keys()
    for name in wanted.diagonal:
        torch.testing.assert_close(found.diagonal[name], wanted.diagonal[name])


def test_layers_that_are_not_coupled_stand_in_groups_of_their_own():
    network = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    parameters, theta, forward_pass, metric = evaluated(network, obs_of(40), metric_of=identity_metric)
    coupled, alone = kronecker_factors(forward_pass, metric), kronecker_factors(forward_pass, metric, coupled=False)
    assert [group.names for group in alone.groups] == [("0.",), ("2.",)]
    both = [
        KroneckerPreconditioner(factors, parameters.slices, damping=0.1, inner_iterations=1)
        for factors in (coupled, alone)
    ]
    b = torch.randn(theta.numel(), dtype=torch.float64)
    torch.testing.assert_close(both[0].solve(b), both[1].solve(b))


def test_the_model_has_the_mean_of_a_diagonal_that_it_cannot_probe():
    torch.manual_seed(3)
    network = Sine(1).double()
    x = torch.randn(4000, OBS_DIM, dtype=torch.float64)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    forward_pass = parameters.forward_pass(theta, x)
    factors = kronecker_factors(forward_pass, FisherMetric((forward_pass.value,), tuple, tuple))
    (diagonal,) = factors.diagonal.values()
    # The derivative in the scale is w cos(a s) a, with a the first layer's output.
    first = network.first(x)
    exact = (network.last.weight * torch.cos(first * network.scale) * first).square().mean(dim=0)
    assert len(diagonal) == 6
    assert float(diagonal.std()) == 0.0
    assert 0.2 < float(diagonal.mean() / exact.mean()) < 5.0  # one draw of signs
