"""The Kronecker-factored model against dense matrices in float64, and what it may and may not change."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from dense import dense, gauss_newton_product
from rollouts import OBS_DIM, Actor, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, update
from tianshou.data import Batch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from trpo_ts import KFAC
from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.critics import GaussNewtonFit
from trpo_ts.distributions.fisher_metric import FisherMetric, fisher_metric
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.solver.conjugate_gradient import SolveOutcome, conjugate_gradient
from trpo_ts.solver.linear_operators import damped


def traced(module: nn.Module, *args, metric_of=fisher_metric):
    parameters = FlatParameters(module)
    theta = parameters.read().requires_grad_(True)
    trace = parameters.trace(theta, *args)
    return parameters, theta, trace, metric_of(trace.output)


def identity_metric(output: Tensor) -> FisherMetric:
    return FisherMetric((output,), tuple, tuple)


def model_of(parameters, trace, metric, damping, inner_iterations=4) -> KroneckerPreconditioner:
    return KroneckerPreconditioner(
        kronecker_factors(trace, metric), parameters.slices, damping=damping, inner_iterations=inner_iterations
    )


def obs_of(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, OBS_DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_one_linear_layer_of_a_squared_error_is_exact():
    """With one output the derivative of each row is its sign, so the factors are exact: F = E[a a^T]."""
    layer = nn.Linear(OBS_DIM, 1).double()
    obs = obs_of(50)
    parameters, theta, trace, metric = traced(layer, obs, metric_of=identity_metric)
    model = model_of(parameters, trace, metric, damping=0.3)
    a = torch.cat([obs, torch.ones(50, 1, dtype=torch.float64)], dim=1)
    expected = a.T @ a / 50 + 0.3 * torch.eye(4, dtype=torch.float64)
    size = theta.numel()
    torch.testing.assert_close(dense(model.multiply, size), expected)
    product = damped(gauss_newton_product(metric, theta), 0.3)
    torch.testing.assert_close(dense(product, size), expected)


def test_blocks_are_products_of_the_second_moments():
    """Every block, also between layers, is E[a_l a_m^T] x E[g_l g_m^T] with the model's own derivatives."""
    torch.manual_seed(0)
    network = Mlp((OBS_DIM, 4, 2)).double()
    parameters, theta, trace, metric = traced(network, obs_of(30), metric_of=identity_metric)
    moments = kronecker_factors(trace, metric)
    (group,) = moments.groups
    assert group.shapes == ((4, OBS_DIM + 1), (2, 5))
    ones = torch.ones(30, 1, dtype=torch.float64)
    inputs = torch.cat([torch.cat([call.input, ones], dim=1) for call in trace.layers], dim=1)
    torch.testing.assert_close(group.inputs, inputs.T @ inputs / 30)
    matrix = dense(model_of(parameters, trace, metric, 0.0).multiply, theta.numel())
    weight = {name: parameters.slices[name] for name in parameters.slices}
    first, second = weight["layers.0.weight"], weight["layers.2.weight"]
    # the block between the two weight matrices, entry by entry
    for i in range(4):
        for j in range(OBS_DIM):
            for k in range(2):
                for m in range(4):
                    expected = group.inputs[j, OBS_DIM + 1 + m] * group.derivatives[i, 4 + k]
                    actual = matrix[first.start + i * OBS_DIM + j, second.start + k * 4 + m]
                    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("discrete", [False, True])
def test_model_is_symmetric_and_positive_semi_definite_and_close_to_the_fisher_matrix(discrete):
    torch.manual_seed(1)
    policy = make_actor_policy(discrete, hidden=(5,), dtype=torch.float64)
    parameters, theta, trace, metric = traced(ActionDistribution(policy), obs_of(4000), Batch())
    matrix = dense(model_of(parameters, trace, metric, 0.0).multiply, theta.numel())
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix)[0] > -1e-10
    fisher = dense(gauss_newton_product(metric, theta), theta.numel())
    assert (matrix - fisher).norm() < 0.35 * fisher.norm()


def test_free_standard_deviation_has_its_exact_diagonal():
    torch.manual_seed(2)
    policy = make_actor_policy(hidden=(5,), dtype=torch.float64)
    _, _, trace, metric = traced(ActionDistribution(policy), obs_of(10), Batch())
    (diagonal,) = kronecker_factors(trace, metric).diagonal.values()
    torch.testing.assert_close(diagonal, torch.full((2,), 2.0, dtype=torch.float64))


def test_solve_inverts_the_model_when_iterated_long_enough():
    torch.manual_seed(3)
    policy = make_actor_policy(hidden=(5,), dtype=torch.float64)
    parameters, theta, trace, metric = traced(ActionDistribution(policy), obs_of(200), Batch())
    model = model_of(parameters, trace, metric, 0.1, inner_iterations=300)
    r = torch.randn(theta.numel(), dtype=torch.float64)
    torch.testing.assert_close(model.multiply(model.solve(r)), r, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("inner_iterations", [1, 4])
@pytest.mark.parametrize("damping", [0.1, 0.01])
def test_preconditioned_solve_finds_the_dense_solution_in_fewer_products(inner_iterations, damping):
    torch.manual_seed(4)
    policy = make_actor_policy(hidden=(16, 16), dtype=torch.float64)
    parameters, theta, trace, metric = traced(ActionDistribution(policy), obs_of(500), Batch())
    operator = damped(gauss_newton_product(metric, theta), damping)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    expected = torch.linalg.solve(dense(operator, theta.numel()), b)
    model = model_of(parameters, trace, metric, damping, inner_iterations)
    solved = conjugate_gradient(operator, b, max_iterations=1000, tolerance=1e-11, preconditioner=model)
    torch.testing.assert_close(solved.x, expected, rtol=1e-6, atol=1e-7)
    assert solved.outcome is SolveOutcome.CONVERGED
    optimum = float(b.dot(expected)) ** 0.5

    def optimality(x: Tensor) -> float:
        return float(b.dot(x)) / float(x.dot(operator(x))) ** 0.5 / optimum

    for products in (1, 2, 3):
        plain = conjugate_gradient(operator, b, max_iterations=products).x
        with_model = conjugate_gradient(operator, b, max_iterations=products, preconditioner=model)
        assert optimality(with_model.x) > optimality(plain)
        assert with_model.iterations == products
        true = float(with_model.x.dot(operator(with_model.x)))
        assert with_model.curvature == pytest.approx(true, rel=0.2)


def test_last_step_without_a_product_is_worth_almost_a_product():
    torch.manual_seed(5)
    policy = make_actor_policy(hidden=(32, 32), dtype=torch.float64)
    parameters, theta, trace, metric = traced(ActionDistribution(policy), obs_of(500), Batch())
    operator = damped(gauss_newton_product(metric, theta), 0.1)
    model = model_of(parameters, trace, metric, 0.1)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    expected = torch.linalg.solve(dense(operator, theta.numel()), b)

    def error(x: Tensor) -> float:
        return float((x - expected).dot(operator(x - expected)))

    class Forgetful:
        """The same preconditioner without products, so that no last step can be taken."""

        solve = staticmethod(model.solve)
        multiply = staticmethod(torch.zeros_like)

    for products in (1, 2, 3):
        without = error(conjugate_gradient(operator, b, max_iterations=products, preconditioner=Forgetful()).x)
        beyond = error(conjugate_gradient(operator, b, max_iterations=products + 1, preconditioner=Forgetful()).x)
        with_it = error(conjugate_gradient(operator, b, max_iterations=products, preconditioner=model).x)
        assert beyond <= with_it < without - 0.7 * (without - beyond)


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


def test_convolutions_are_matrices_over_patches():
    torch.manual_seed(6)
    network = Convolutional().double()
    images = torch.randn(7, 1, 6, 6, dtype=torch.float64)
    _, _, trace, metric = traced(network, images, metric_of=identity_metric)
    for call, layer in zip(trace.layers[:2], (network.first, network.second), strict=True):
        output = layer(call.input).detach()
        (rows,) = call.rows(output - layer.bias.detach().view(1, -1, 1, 1))
        weight = layer.weight.detach().reshape(layer.weight.shape[0], -1)
        torch.testing.assert_close(rows.inputs @ weight.T, rows.derivatives)
    names = [group.names for group in kronecker_factors(trace, metric).groups]
    assert names == [("first.",), ("second.",), ("head.",)]  # 9, 4 and 1 rows per sample


def test_convolutional_network_is_solved_in_fewer_products():
    torch.manual_seed(7)
    network = Convolutional().double()
    images = torch.randn(200, 1, 6, 6, dtype=torch.float64)
    parameters, theta, trace, metric = traced(network, images, metric_of=identity_metric)
    operator = damped(gauss_newton_product(metric, theta), 0.01)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    model = model_of(parameters, trace, metric, 0.01)
    expected = torch.linalg.solve(dense(operator, theta.numel()), b)
    solved = conjugate_gradient(operator, b, max_iterations=300, tolerance=1e-10, preconditioner=model)
    torch.testing.assert_close(solved.x, expected, rtol=1e-6, atol=1e-6)
    for products in (1, 2, 3):
        plain = conjugate_gradient(operator, b, max_iterations=products).x - expected
        with_model = conjugate_gradient(operator, b, max_iterations=products, preconditioner=model).x - expected
        assert with_model.dot(operator(with_model)) < plain.dot(operator(plain))


class Odd(nn.Module):
    """Layers in unusual use: called twice, without bias, frozen, unused; norms and a bare parameter beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(OBS_DIM, OBS_DIM)
        self.norm = nn.LayerNorm(OBS_DIM)
        self.no_bias = nn.Linear(OBS_DIM, 4, bias=False)
        self.frozen = nn.Linear(4, 4)
        self.without = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(2))
        self.frozen.requires_grad_(False)
        self.without.bias.requires_grad_(False)

    def forward(self, obs: Tensor) -> Tensor:
        x = torch.tanh(self.twice(torch.tanh(self.twice(obs))))
        return self.scale * self.without(self.frozen(self.no_bias(self.norm(x))))


def test_layers_in_unusual_use_are_solved_too():
    torch.manual_seed(8)
    network = Odd().double()
    parameters, theta, trace, metric = traced(network, obs_of(100), metric_of=identity_metric)
    model = model_of(parameters, trace, metric, 0.05)
    matrix = dense(model.multiply, theta.numel())
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix)[0] > 0.05 - 1e-10
    operator = damped(gauss_newton_product(metric, theta), 0.05)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    solved = conjugate_gradient(operator, b, max_iterations=500, tolerance=1e-10, preconditioner=model)
    torch.testing.assert_close(solved.x, torch.linalg.solve(dense(operator, theta.numel()), b), rtol=1e-5, atol=1e-6)


def test_network_without_layers_does_without():
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(OBS_DIM, 2) * 0.1)

        def forward(self, obs, state=None, info=None):
            mean = torch.as_tensor(obs, dtype=torch.float32) @ self.weight
            return (mean, torch.ones_like(mean)), state

    torch.manual_seed(9)
    policy = make_actor_policy(actor=Bare())
    assert update(make_trpo(policy), make_rollout(policy)).accepted == 1.0


def test_distribution_without_a_closed_form_does_without():
    class Shifted(Normal):
        """A subclass: nothing is assumed of its density."""

    torch.distributions.kl.register_kl(Shifted, Shifted)(lambda p, q: torch.distributions.kl._kl_normal_normal(p, q))
    torch.manual_seed(10)
    policy = make_actor_policy(dtype=torch.float64)
    critic = Mlp((OBS_DIM, 4, 1)).double()
    buffer = make_rollout(policy)
    results = []
    for dist_fn in (policy.dist_fn, lambda loc_scale: Independent(Shifted(*loc_scale), 1)):
        algorithm = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), preconditioner=None, cg_iters=30)
        algorithm.policy.dist_fn = dist_fn
        algorithm.preconditioner = KFAC() if dist_fn is not policy.dist_fn else None
        assert update(algorithm, buffer).accepted == 1.0
        results.append(parameters_of(algorithm))
    for known, unknown in zip(*results, strict=True):  # Fisher products here, products with the KL Hessian there
        torch.testing.assert_close(unknown, known, rtol=1e-9, atol=1e-10)


def test_update_is_better_with_the_preconditioner_for_the_same_products():
    torch.manual_seed(11)
    policy = make_actor_policy(hidden=(32, 32))
    critic = Mlp((OBS_DIM, 8, 1))
    buffer = make_rollout(policy, 8, 64)
    results = {}
    for name, kwargs in {
        "plain": {"preconditioner": None, "cg_iters": 2},
        "kfac": {"cg_iters": 2},
    }.items():
        algorithm = make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), cg_damping=0.01, cg_tolerance=0.0, **kwargs)
        results[name] = update(algorithm, buffer)
    assert results["kfac"].cg_iterations == results["plain"].cg_iterations == 2
    assert results["kfac"].expected_improvement > results["plain"].expected_improvement


def test_micro_batches_and_subsampling_take_the_same_model():
    torch.manual_seed(12)
    policy = make_actor_policy(dtype=torch.float64, hidden=(16,))
    critic = Mlp((OBS_DIM, 4, 1)).double()
    buffer = make_rollout(policy, 8, 100)
    results = []
    for size in (None, 33):
        algorithm = make_trpo(
            copy.deepcopy(policy), copy.deepcopy(critic), micro_batch_size=size, preconditioner=KFAC(samples=50)
        )
        update(algorithm, buffer)
        results.append(parameters_of(algorithm))
    for full, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, full, rtol=1e-10, atol=1e-10)


def test_global_generator_is_left_alone():
    torch.manual_seed(13)
    policy = make_actor_policy(actor=Actor(Mlp((OBS_DIM, 4, 2)), -0.5))
    _, _, trace, metric = traced(ActionDistribution(policy), obs_of(10).float(), Batch())
    state = torch.get_rng_state()
    kronecker_factors(trace, metric)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "kwargs", [{"inner_iterations": 0}, {"inner_iterations": 1.5}, {"samples": 0}, {"samples": True}]
)
def test_bad_settings_are_refused(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1"):
        KFAC(**kwargs)


@pytest.mark.parametrize("damping", [-0.1, math.nan, math.inf, "1", None, True])
def test_bad_damping_is_refused(damping):
    with pytest.raises(ValueError, match=f"relative_damping must be a number >= 0, got {damping!r}"):
        KFAC(relative_damping=damping)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("relative", [0.0, 1e-3, 3.0])
def test_the_model_is_damped_relative_to_its_mean_diagonal_at_least_as_the_system(relative, coupled):
    torch.manual_seed(3)
    policy = make_actor_policy(hidden=(5, 4), dtype=torch.float64)
    parameters, theta, trace, metric = traced(ActionDistribution(policy), obs_of(50), Batch())
    moments, slices = kronecker_factors(trace, metric, coupled=coupled), parameters.slices
    undamped = KroneckerPreconditioner(moments, slices, damping=0.0, inner_iterations=1)
    (std,) = (slices[name] for name in moments.diagonal)
    diagonal = dense(undamped.multiply, theta.numel()).diagonal()
    mean = torch.cat([diagonal[: std.start], diagonal[std.stop :]]).mean()
    assert moments.mean_curvature() == pytest.approx(float(mean), rel=1e-10)
    expected = max(0.01, relative * float(mean))
    v = torch.randn(theta.numel(), dtype=torch.float64)
    damped_model = KroneckerPreconditioner(moments, slices, damping=expected, inner_iterations=1)
    model = KFAC(relative_damping=relative).at(moments, slices, 0.01)
    torch.testing.assert_close(model.multiply(v), damped_model.multiply(v))
    assert (expected == 0.01) == (relative < 1.0)


def test_a_model_that_is_damped_more_leads_to_the_same_solution_by_way_of_directions_of_more_curvature():
    torch.manual_seed(4)
    policy = make_actor_policy(hidden=(8, 8), dtype=torch.float64)
    parameters, theta, trace, metric = traced(ActionDistribution(policy), obs_of(300), Batch())
    operator, b = damped(gauss_newton_product(metric, theta), 0.01), torch.randn(theta.numel(), dtype=torch.float64)
    exact = torch.linalg.solve(dense(operator, theta.numel()), b)
    mean_curvature = []
    for relative in (0.0, 1.0, 10.0):
        model = KFAC(relative_damping=relative).at(kronecker_factors(trace, metric), parameters.slices, 0.01)
        x = conjugate_gradient(operator, b, max_iterations=400, tolerance=1e-13, preconditioner=model).x
        torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-8)
        first = conjugate_gradient(operator, b, max_iterations=1, preconditioner=model).x
        mean_curvature.append(float(first.dot(operator(first)) / first.dot(first)))
    assert mean_curvature[0] < mean_curvature[1] < mean_curvature[2]


def test_a_fused_chain_has_the_moments_of_its_layers():
    torch.manual_seed(9)
    network = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    obs = obs_of(40)
    _, _, trace, metric = traced(network, obs, metric_of=identity_metric)
    wanted = kronecker_factors(trace, metric)
    with fused_chains(network):
        _, _, trace, metric = traced(network, obs, metric_of=identity_metric)
        assert len(trace.layers) == 1
        found = kronecker_factors(trace, metric)
    assert [group.names for group in found.groups] == [group.names for group in wanted.groups]
    for a, b in zip(found.groups, wanted.groups, strict=True):
        torch.testing.assert_close(a.inputs, b.inputs)
        torch.testing.assert_close(a.derivatives, b.derivatives)


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
def test_samples_of_a_whole_pass_have_the_moments_of_a_pass_of_their_own(build, fused):
    torch.manual_seed(10)
    network = build().double()
    obs = torch.randn(40, 1, 6, 6, dtype=torch.float64) if build is Convolutional else obs_of(40)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    roots = torch.randn(40, *network(obs).shape[1:], dtype=torch.float64)
    kfac, samples = KFAC(samples=11), torch.arange(11) * 40 // 11

    def metric_of(output: Tensor) -> FisherMetric:
        return FisherMetric((output,), tuple, lambda signs: (roots if len(output) == 40 else roots[samples],))

    with fused_chains(*([network] if fused else [])):
        whole = parameters.trace(theta, obs)
        passes = []

        def trace_at(rows: Tensor):
            passes.append(rows.tolist())
            return parameters.trace(theta, obs[rows])

        device = theta.device
        wanted = kfac.moments(40, trace_at, metric_of, device=device)
        found = kfac.moments(40, trace_at, metric_of, device=device, whole=whole)
    # Where a layer's rows are not the samples, the whole pass is of no use.
    assert passes == [samples.tolist()] * (2 if build is Reshaping else 1)
    for a, b in zip(found.groups, wanted.groups, strict=True):
        assert a.names == b.names
        torch.testing.assert_close(a.inputs, b.inputs)
        torch.testing.assert_close(a.derivatives, b.derivatives)


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
def test_micro_batches_have_the_moments_of_one_pass_over_all_samples(build, size, fused):
    torch.manual_seed(10)
    network = build().double()
    obs = torch.randn(40, 1, 6, 6, dtype=torch.float64) if build is Convolutional else obs_of(40)
    parameters = FlatParameters(network)
    theta = parameters.read().requires_grad_(True)
    passes: list[int] = []

    def trace_at(rows: Tensor):
        passes.append(len(rows))
        return parameters.trace(theta, obs[rows])

    with fused_chains(*([network] if fused else [])):
        wanted = KFAC(samples=11).moments(40, trace_at, identity_metric, device=theta.device)
        passes.clear()
        found = KFAC(samples=11).moments(40, trace_at, identity_metric, device=theta.device, micro_batch_size=size)
    # Where a layer's rows are not the samples, no part can be told from the others.
    assert passes == [size, 11] if build is Reshaping else max(passes) == size
    for a, b in zip(found.groups, wanted.groups, strict=True):
        assert a.names == b.names
        torch.testing.assert_close(a.inputs, b.inputs)
        torch.testing.assert_close(a.derivatives, b.derivatives)
    assert found.diagonal.keys() == wanted.diagonal.keys()
    for name in wanted.diagonal:
        torch.testing.assert_close(found.diagonal[name], wanted.diagonal[name])


@pytest.mark.parametrize("critic_fit", [None, GaussNewtonFit()], ids=repr)
def test_no_pass_of_an_update_is_larger_than_a_micro_batch(critic_fit):
    seen: list[int] = []
    policy, critic = make_actor_policy(), Mlp((OBS_DIM, 8, 1))
    buffer = make_rollout(policy, n_envs=4, length=150)
    for network in (policy.actor, critic):
        network.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    update(make_trpo(policy, critic, micro_batch_size=16, max_batchsize=16, critic_fit=critic_fit), buffer)
    assert max(seen) == 16


@pytest.mark.parametrize(("length", "own_passes"), [(10, 0), (11, 1)])
def test_the_model_has_a_pass_of_its_own_only_in_large_rollouts(length: int, own_passes: int):
    seen: list[int] = []
    policy = make_actor_policy()
    buffer = make_rollout(policy, n_envs=4, length=length)
    policy.actor.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    update(make_trpo(policy, max_kl=1e-4, preconditioner=KFAC(samples=10)), buffer)
    assert seen.count(10) == own_passes
    assert seen.count(4 * length) == 2  # one with the graph, and the accepted candidate


def test_layers_that_are_not_coupled_stand_in_groups_of_their_own():
    network = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    parameters, theta, trace, metric = traced(network, obs_of(40), metric_of=identity_metric)
    coupled, alone = kronecker_factors(trace, metric), kronecker_factors(trace, metric, coupled=False)
    assert [group.names for group in alone.groups] == [("0.",), ("2.",)]
    both = [
        KroneckerPreconditioner(moments, parameters.slices, damping=0.1, inner_iterations=1)
        for moments in (coupled, alone)
    ]
    b = torch.randn(theta.numel(), dtype=torch.float64)
    torch.testing.assert_close(both[0].solve(b), both[1].solve(b))
