"""Products and solves with the Kronecker-factored approximation against dense matrices in float64."""

from __future__ import annotations

import pytest
import torch
from dense import dense, gauss_newton_product
from kfac_cases import Convolutional, evaluated, identity_metric, obs_of, preconditioner_of
from rollouts import OBS_DIM, Mlp, make_actor_policy
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.policy_map import PolicyMap
from trpo_ts.solver.conjugate_gradient import SolveStatus, conjugate_gradient
from trpo_ts.solver.linear_operators import damped


def test_one_linear_layer_of_a_squared_error_is_exact():
    """With one output the derivative of each row is its sign, so the factors are exact: F = E[a a^T]."""
    layer = nn.Linear(OBS_DIM, 1).double()
    obs = obs_of(50)
    parameters, theta, forward_pass, metric = evaluated(layer, obs, metric_of=identity_metric)
    preconditioner = preconditioner_of(parameters, forward_pass, metric, damping=0.3)
    a = torch.cat([obs, torch.ones(50, 1, dtype=torch.float64)], dim=1)
    expected = a.T @ a / 50 + 0.3 * torch.eye(4, dtype=torch.float64)
    size = theta.numel()
    torch.testing.assert_close(dense(preconditioner.multiply, size), expected)
    product = damped(gauss_newton_product(metric, theta), 0.3)
    torch.testing.assert_close(dense(product, size), expected)


def test_blocks_are_products_of_the_second_moments():
    """Every block, also between layers, is E[y_l y_m^T] x E[h_l h_m^T] with the derivatives that K-FAC takes."""
    torch.manual_seed(0)
    network = Mlp((OBS_DIM, 4, 2)).double()
    parameters, theta, forward_pass, metric = evaluated(network, obs_of(30), metric_of=identity_metric)
    factors = kronecker_factors(forward_pass, metric)
    (group,) = factors.groups
    assert group.shapes == ((4, OBS_DIM + 1), (2, 5))
    ones = torch.ones(30, 1, dtype=torch.float64)
    inputs = torch.cat([torch.cat([call.input, ones], dim=1) for call in forward_pass.layer_calls], dim=1)
    torch.testing.assert_close(group.input_factor, inputs.T @ inputs / 30)
    matrix = dense(preconditioner_of(parameters, forward_pass, metric, 0.0).multiply, theta.numel())
    weight = {name: parameters.slices[name] for name in parameters.slices}
    first, second = weight["layers.0.weight"], weight["layers.2.weight"]
    # the block between the two weight matrices, entry by entry
    for i in range(4):
        for j in range(OBS_DIM):
            for k in range(2):
                for m in range(4):
                    expected = group.input_factor[j, OBS_DIM + 1 + m] * group.derivative_factor[i, 4 + k]
                    actual = matrix[first.start + i * OBS_DIM + j, second.start + k * 4 + m]
                    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("discrete", [False, True])
def test_model_is_symmetric_and_positive_semi_definite_and_close_to_the_fisher_matrix(discrete):
    torch.manual_seed(1)
    policy = make_actor_policy(discrete, hidden=(5,), dtype=torch.float64)
    parameters, theta, forward_pass, metric = evaluated(PolicyMap(policy), obs_of(4000), Batch())
    matrix = dense(preconditioner_of(parameters, forward_pass, metric, 0.0).multiply, theta.numel())
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix)[0] > -1e-10
    fisher = dense(gauss_newton_product(metric, theta), theta.numel())
    assert (matrix - fisher).norm() < 0.35 * fisher.norm()


def test_solve_inverts_the_model_when_iterated_long_enough():
    torch.manual_seed(3)
    policy = make_actor_policy(hidden=(5,), dtype=torch.float64)
    parameters, theta, forward_pass, metric = evaluated(PolicyMap(policy), obs_of(200), Batch())
    preconditioner = preconditioner_of(parameters, forward_pass, metric, 0.1, inner_iterations=300)
    r = torch.randn(theta.numel(), dtype=torch.float64)
    torch.testing.assert_close(preconditioner.multiply(preconditioner.solve(r)), r, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("inner_iterations", [1, 4])
@pytest.mark.parametrize("damping", [0.1, 0.01])
def test_preconditioned_solve_finds_the_dense_solution_in_fewer_products(inner_iterations, damping):
    torch.manual_seed(4)
    policy = make_actor_policy(hidden=(16, 16), dtype=torch.float64)
    parameters, theta, forward_pass, metric = evaluated(PolicyMap(policy), obs_of(500), Batch())
    operator = damped(gauss_newton_product(metric, theta), damping)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    expected = torch.linalg.solve(dense(operator, theta.numel()), b)
    preconditioner = preconditioner_of(parameters, forward_pass, metric, damping, inner_iterations)
    solved = conjugate_gradient(operator, b, max_iterations=1000, tolerance=1e-11, preconditioner=preconditioner)
    torch.testing.assert_close(solved.x, expected, rtol=1e-6, atol=1e-7)
    assert solved.status is SolveStatus.CONVERGED
    optimum = float(b.dot(expected)) ** 0.5

    def optimality(x: Tensor) -> float:
        return float(b.dot(x)) / float(x.dot(operator(x))) ** 0.5 / optimum

    for products in (1, 2, 3):
        plain = conjugate_gradient(operator, b, max_iterations=products).x
        with_kfac = conjugate_gradient(operator, b, max_iterations=products, preconditioner=preconditioner)
        assert optimality(with_kfac.x) > optimality(plain)
        assert with_kfac.iterations == products
        true = float(with_kfac.x.dot(operator(with_kfac.x)))
        assert with_kfac.curvature == pytest.approx(true, rel=0.2)


def test_last_step_without_a_product_is_worth_almost_a_product():
    torch.manual_seed(5)
    policy = make_actor_policy(hidden=(32, 32), dtype=torch.float64)
    parameters, theta, forward_pass, metric = evaluated(PolicyMap(policy), obs_of(500), Batch())
    operator = damped(gauss_newton_product(metric, theta), 0.1)
    preconditioner = preconditioner_of(parameters, forward_pass, metric, 0.1)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    expected = torch.linalg.solve(dense(operator, theta.numel()), b)

    def error(x: Tensor) -> float:
        return float((x - expected).dot(operator(x - expected)))

    class Forgetful:
        """The same preconditioner without products, so that no last step can be taken."""

        solve = staticmethod(preconditioner.solve)
        multiply = staticmethod(torch.zeros_like)

    for products in (1, 2, 3):
        without = error(conjugate_gradient(operator, b, max_iterations=products, preconditioner=Forgetful()).x)
        beyond = error(conjugate_gradient(operator, b, max_iterations=products + 1, preconditioner=Forgetful()).x)
        with_it = error(conjugate_gradient(operator, b, max_iterations=products, preconditioner=preconditioner).x)
        assert beyond <= with_it < without - 0.7 * (without - beyond)


def test_convolutional_network_is_solved_in_fewer_products():
    torch.manual_seed(7)
    network = Convolutional().double()
    images = torch.randn(200, 1, 6, 6, dtype=torch.float64)
    parameters, theta, forward_pass, metric = evaluated(network, images, metric_of=identity_metric)
    operator = damped(gauss_newton_product(metric, theta), 0.01)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    preconditioner = preconditioner_of(parameters, forward_pass, metric, 0.01)
    expected = torch.linalg.solve(dense(operator, theta.numel()), b)
    solved = conjugate_gradient(operator, b, max_iterations=300, tolerance=1e-10, preconditioner=preconditioner)
    torch.testing.assert_close(solved.x, expected, rtol=1e-6, atol=1e-6)
    for products in (1, 2, 3):
        plain = conjugate_gradient(operator, b, max_iterations=products).x - expected
        with_kfac = conjugate_gradient(operator, b, max_iterations=products, preconditioner=preconditioner).x - expected
        assert with_kfac.dot(operator(with_kfac)) < plain.dot(operator(plain))


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
    parameters, theta, forward_pass, metric = evaluated(network, obs_of(100), metric_of=identity_metric)
    preconditioner = preconditioner_of(parameters, forward_pass, metric, 0.05)
    matrix = dense(preconditioner.multiply, theta.numel())
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix)[0] > 0.05 - 1e-10
    operator = damped(gauss_newton_product(metric, theta), 0.05)
    b = torch.randn(theta.numel(), dtype=torch.float64)
    solved = conjugate_gradient(operator, b, max_iterations=500, tolerance=1e-10, preconditioner=preconditioner)
    torch.testing.assert_close(solved.x, torch.linalg.solve(dense(operator, theta.numel()), b), rtol=1e-5, atol=1e-6)
