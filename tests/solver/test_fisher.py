"""Products with the Fisher matrix against dense matrices, with a closed form and by the Hessian of the divergence."""

from __future__ import annotations

import math

import pytest
import torch
from dense import (
    CATEGORICAL,
    FAMILIES,
    NORMAL,
    DensePolicy,
    Family,
    dense,
    double,
    families,
    gauss_newton_product,
    point,
    problem_of,
)
from fisher_cases import OBS, leaf_of, normal_of
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from torch import Tensor
from torch.distributions import Gamma, Independent, Laplace, LogNormal

from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.solver.fisher import kl_hessian_product


def gauss_newton_of(policy: DensePolicy, theta: Tensor) -> Tensor:
    leaf = leaf_of(theta)
    return dense(gauss_newton_product(fisher_metric(policy.distribution(leaf)), leaf), len(theta))


def kl_hessian_of(policy: DensePolicy, theta: Tensor) -> Tensor:
    leaf = leaf_of(theta)
    return dense(kl_hessian_product(policy.distribution(theta), policy.distribution(leaf), leaf), len(theta))


# --- the operators against dense matrices


@families
@pytest.mark.parametrize("distance", [0.0, 0.5])
def test_gauss_newton_product_is_the_hessian_of_the_mean_divergence(family: Family, distance: float):
    policy = DensePolicy(family)
    theta = policy.moved(distance)
    torch.testing.assert_close(gauss_newton_of(policy, theta), policy.fisher(theta), rtol=1e-9, atol=1e-11)


@families
def test_kl_hessian_product_is_the_hessian_of_the_mean_divergence(family: Family):
    policy = DensePolicy(family)
    torch.testing.assert_close(kl_hessian_of(policy, policy.theta), policy.fisher(policy.theta), rtol=1e-9, atol=1e-11)


def test_the_product_of_a_categorical_policy_is_the_expected_outer_product_of_its_score():
    policy = DensePolicy(CATEGORICAL, rows=5)
    probabilities = policy.parts(policy.theta)[0].softmax(-1)
    scores = torch.func.jacrev(lambda theta: policy.parts(theta)[0].log_softmax(-1))(policy.theta)
    expected = torch.einsum("na,nai,naj->ij", probabilities, scores, scores) / 5
    torch.testing.assert_close(gauss_newton_of(policy, policy.theta), expected, rtol=1e-10, atol=1e-13)


def test_the_product_of_a_gaussian_policy_is_the_mean_of_its_jacobians_products():
    policy = DensePolicy(NORMAL, rows=5)
    _, scale = policy.parts(policy.theta)
    jacobian_mean, jacobian_scale = torch.func.jacrev(lambda theta: policy.parts(theta))(policy.theta)
    expected = torch.zeros(len(policy.theta), len(policy.theta), dtype=torch.float64)
    for n in range(5):
        for a in range(2):
            expected += torch.outer(jacobian_mean[n, a], jacobian_mean[n, a]) / scale[n, a] ** 2 / 5
            expected += 2 * torch.outer(jacobian_scale[n, a], jacobian_scale[n, a]) / scale[n, a] ** 2 / 5
    torch.testing.assert_close(gauss_newton_of(policy, policy.theta), expected, rtol=1e-10, atol=1e-13)


@families
def test_both_operators_are_symmetric_and_positive_semidefinite(family: Family):
    policy = DensePolicy(family, rows=3, hidden=5, seed=7)
    for matrix in (gauss_newton_of(policy, policy.theta), kl_hessian_of(policy, policy.theta)):
        torch.testing.assert_close(matrix, matrix.mT, rtol=1e-9, atol=1e-12)
        assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-11


@examples(20)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), seed=st.integers(0, 1000), family=st.sampled_from(FAMILIES))
def test_the_product_is_linear_and_its_graph_can_be_used_again(a: float, b: float, seed: int, family: Family):
    policy = DensePolicy(family, rows=3, hidden=2)
    leaf = leaf_of(policy.theta)
    product = gauss_newton_product(fisher_metric(policy.distribution(leaf)), leaf)
    v, w = torch.randn(2, len(leaf), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(product(a * v + b * w), a * product(v) + b * product(w), rtol=1e-9, atol=1e-11)


def test_a_product_needs_no_gradient_mode_and_returns_a_constant():
    policy = DensePolicy(NORMAL)
    leaf = leaf_of(policy.theta)
    operators = [
        gauss_newton_product(fisher_metric(policy.distribution(leaf)), leaf),
        kl_hessian_product(policy.distribution(policy.theta), policy.distribution(leaf), leaf),
    ]
    v = torch.ones_like(policy.theta)
    for operator in operators:
        with torch.no_grad():
            assert torch.equal(operator(v), operator(v))
        assert not operator(v).requires_grad
    assert leaf.grad is None


@pytest.mark.parametrize("operator", ["gauss_newton", "kl_hessian"])
def test_unused_parameters_have_zero_rows_and_columns(operator: str):
    theta = double(0.3, -0.2, 0.7, 9.0, 5.0)

    def distribution(t: Tensor) -> Independent:
        return normal_of(OBS * t[:2], torch.exp(t[2]).expand(6, 2))

    leaf = leaf_of(theta)
    if operator == "gauss_newton":
        matrix = dense(gauss_newton_product(fisher_metric(distribution(leaf)), leaf), 5)
    else:
        matrix = dense(kl_hessian_product(distribution(theta), distribution(leaf), leaf), 5)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    # The mean: E[x^2] / sigma^2. The logarithm of a standard deviation shared by two components: 2 each.
    expected[0, 0], expected[1, 1] = (OBS**2).mean(0) * math.exp(-1.4)
    expected[2, 2] = 4.0
    torch.testing.assert_close(matrix, expected, rtol=1e-12, atol=1e-14)


def test_a_fixed_standard_deviation_leaves_the_mean_block():
    leaf = leaf_of(double(0.3, -0.2))
    metric = fisher_metric(normal_of(OBS * leaf, torch.full((6, 2), 0.5, dtype=torch.float64)))
    expected = torch.diag((OBS**2).mean(0) * 4.0)
    torch.testing.assert_close(dense(gauss_newton_product(metric, leaf), 2), expected, rtol=1e-12, atol=1e-14)


def test_a_fixed_mean_leaves_the_block_of_the_standard_deviation():
    leaf = leaf_of(double(0.3, -0.2))
    metric = fisher_metric(normal_of(OBS, torch.exp(leaf).expand(6, 2)))
    expected = 2 * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(dense(gauss_newton_product(metric, leaf), 2), expected, rtol=1e-12, atol=1e-14)


def test_a_fixed_half_of_a_beta_leaves_the_block_of_the_other():
    leaf = leaf_of(double(2.0))
    family = next(f for f in FAMILIES if f.name == "beta-2")
    metric = fisher_metric(family.build(leaf.expand(6, 2), torch.full((6, 2), 3.0, dtype=torch.float64)))
    # psi'(2) - psi'(5) for each of two components
    expected = 2 * (math.pi**2 / 6 - 1 - (math.pi**2 / 6 - 1 - 1 / 4 - 1 / 9 - 1 / 16))
    torch.testing.assert_close(gauss_newton_product(metric, leaf)(double(1.0)), double(expected), rtol=1e-8, atol=0)


def test_a_constant_distribution_has_a_zero_operator():
    theta = leaf_of(double(0.3, -0.2))
    operator = gauss_newton_product(fisher_metric(normal_of(OBS, torch.ones_like(OBS))), theta)
    assert torch.equal(operator(double(1.0, 2.0)), double(0.0, 0.0))


# --- distributions without a closed form


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize("there", [(0.3, -0.2, 0.1), (0.5, 0.4, -0.3)], ids=["start", "elsewhere"])
def test_a_log_normal_policy_falls_back_on_the_hessian_of_its_divergence(
    micro_batch_size: int | None, there: tuple[float, float, float]
):
    def distribution(theta: Tensor, rows: slice | Tensor) -> Independent:
        loc = theta[:2] * OBS[rows]
        return Independent(LogNormal(loc, torch.exp(theta[2]).expand_as(loc)), 1)

    theta, act = double(0.3, -0.2, 0.1), torch.exp(OBS.flip(0))
    problem, _ = problem_of(
        distribution,
        theta,
        act=act,
        adv=double(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        micro_batch_size=micro_batch_size,
    )
    # The exponential of a Gaussian has the Gaussian's Fisher matrix.
    expected = torch.diag(torch.cat([(OBS**2).mean(0) * math.exp(-2 * there[2]), double(4.0)]))
    torch.testing.assert_close(
        dense(problem.linearise(point(double(*there))).fisher, 3), expected, rtol=1e-10, atol=1e-12
    )


def test_a_gamma_policy_falls_back_on_the_hessian_of_its_divergence():
    def distribution(theta: Tensor, rows: slice | Tensor) -> Gamma:
        return Gamma(theta[0].expand(6)[rows], theta[1].expand(6)[rows])

    theta, act = double(2.0, 3.0), OBS[:, 0].abs()
    problem, start = problem_of(distribution, theta, act=act, adv=OBS[:, 1])
    # [[psi'(k), -1/beta], [-1/beta, k / beta^2]] for shape k and rate beta
    expected = torch.tensor([[math.pi**2 / 6 - 1, -1 / 3], [-1 / 3, 2 / 9]], dtype=torch.float64)
    torch.testing.assert_close(dense(problem.linearise(start).fisher, 2), expected, rtol=1e-8, atol=0)


def test_a_laplace_policy_has_a_fisher_matrix_for_its_location():
    # Its divergence holds |m - m'|, whose second derivative automatic differentiation takes for zero at m = m'.
    def distribution(theta: Tensor, rows: slice | Tensor) -> Laplace:
        return Laplace(theta[0] * OBS[rows, 0], torch.exp(theta[1]).expand(len(OBS[rows])))

    theta, act = double(0.3, 0.0), OBS[:, 1]
    problem, start = problem_of(distribution, theta, act=act, adv=OBS[:, 1])
    # 1 / b^2 for the location, 1 for the logarithm of the scale
    expected = torch.diag(torch.stack([(OBS[:, 0] ** 2).mean(), torch.tensor(1.0).double()]))
    torch.testing.assert_close(dense(problem.linearise(start).fisher, 2), expected, rtol=1e-10, atol=1e-12)
