from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from dense import (
    CATEGORICAL,
    FAMILIES,
    NORMAL,
    DensePolicy,
    DenseProblem,
    Family,
    dense,
    gauss_newton_product,
    with_eigenvalues,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Gamma, Independent, Laplace, LogNormal, Normal

from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.solver.fisher import kl_hessian_product
from trpo_ts.solver.linear_operators import damped, weighted_sum
from trpo_ts.solver.problem import PolicyProblem

families = pytest.mark.parametrize("family", FAMILIES, ids=str)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def leaf_of(theta: Tensor) -> Tensor:
    return theta.clone().requires_grad_(True)


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


@settings(max_examples=20, deadline=None)
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


# --- parameters that are unused, constant, free or shared


def normal_of(loc: Tensor, scale: Tensor) -> Independent:
    return Independent(Normal(loc, scale), 1)


OBS = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


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


@pytest.mark.parametrize("micro_batch_size", [None, 4])
@pytest.mark.parametrize(
    "constant",
    [lambda x: normal_of(x, torch.ones_like(x)), lambda x: Independent(LogNormal(x, torch.ones_like(x)), 1)],
    ids=["known", "unknown"],
)
def test_a_constant_distribution_has_a_zero_gradient(
    constant: Callable[[Tensor], Independent], micro_batch_size: int | None
):
    # As when the only trainable parameter of a policy is one that its output does not use.
    theta, act = double(0.3, -0.2), torch.exp(OBS)
    problem = PolicyProblem(
        lambda t, rows: constant(OBS[rows]),
        theta,
        act=act,
        adv=double(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        micro_batch_size=micro_batch_size,
    )
    model = problem.linearise(theta)
    assert torch.equal(model.gradient, torch.zeros_like(theta))
    assert torch.equal(model.fisher(theta), torch.zeros_like(theta))


class Tied(nn.Module):
    """Two layers that share one weight, a frozen bias, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, obs: Tensor) -> Categorical:
        return Categorical(logits=self.second(torch.tanh(self.first(obs))))


def test_shared_frozen_and_unused_parameters_in_a_module():
    torch.manual_seed(0)
    module = Tied().double()
    parameters = FlatParameters(module)
    names = list(parameters.unflatten(parameters.read()))
    assert sorted(names) == ["first.bias", "first.weight", "unused"]
    leaf = leaf_of(parameters.read())
    matrix = dense(gauss_newton_product(fisher_metric(parameters.call(leaf, OBS)), leaf), len(leaf))

    def log_probabilities(theta: Tensor) -> Tensor:
        part = parameters.unflatten(theta)
        hidden = torch.tanh(OBS @ part["first.weight"].mT + part["first.bias"])
        return (hidden @ part["first.weight"].mT + module.second.bias.detach()).log_softmax(-1)

    theta = parameters.read()
    scores = torch.func.jacrev(log_probabilities)(theta)
    expected = torch.einsum("na,nai,naj->ij", log_probabilities(theta).exp(), scores, scores) / len(OBS)
    torch.testing.assert_close(matrix, expected, rtol=1e-10, atol=1e-13)
    assert float(matrix.diagonal().max()) > 1e-3


def test_flat_parameters_read_what_they_wrote_and_calling_changes_nothing():
    module = Tied().double()
    parameters = FlatParameters(module)
    before = parameters.read()
    with torch.no_grad():
        parameters.call(before + 1.0, OBS)
    assert torch.equal(parameters.read(), before)
    parameters.write(before + 1.0)
    assert torch.equal(parameters.read(), before + 1.0)
    assert module.second.weight is module.first.weight


# --- the algebra of operators


def test_damping_adds_a_multiple_of_the_identity():
    matrix = with_eigenvalues([1.0, 2.0, 5.0])
    got = dense(damped(lambda v: matrix @ v, 0.3), 3)
    torch.testing.assert_close(got, matrix + 0.3 * torch.eye(3, dtype=torch.float64), rtol=1e-15, atol=0)


def test_weighted_sum_is_the_sum_of_the_matrices():
    first, second = with_eigenvalues([1.0, 2.0, 5.0]), with_eigenvalues([0.0, 1.0, 3.0], seed=1)
    got = dense(weighted_sum([lambda v: first @ v, lambda v: second @ v], [0.25, 0.75]), 3)
    torch.testing.assert_close(got, 0.25 * first + 0.75 * second, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_weighted_sum_of_one_operator_keeps_its_weight(weight: float):
    matrix = with_eigenvalues([1.0, 2.0, 5.0])
    got = dense(weighted_sum([lambda v: matrix @ v], [weight]), 3)
    torch.testing.assert_close(got, weight * matrix, rtol=1e-15, atol=0)


def test_weighted_sum_leaves_its_argument_alone():
    v = double(1.0, 2.0)
    weighted_sum([lambda v: v, lambda v: 2 * v], [0.5, 0.5])(v)
    assert torch.equal(v, double(1.0, 2.0))


# --- the problem: gradient, operator and evaluation over the rollout


@families
@pytest.mark.parametrize("ent_coef", [0.0, 0.7])
@pytest.mark.parametrize("distance", [0.0, 0.3])
def test_a_problem_is_its_equations(family: Family, ent_coef: float, distance: float):
    case = DenseProblem(DensePolicy(family), ent_coef=ent_coef)
    theta = case.policy.moved(distance)
    model, evaluation = case.problem.linearise(theta), case.problem.evaluate(theta)
    size = len(theta)
    torch.testing.assert_close(model.gradient, case.gradient(theta), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dense(model.fisher, size), case.policy.fisher(theta), rtol=1e-9, atol=1e-11)
    assert model.objective == pytest.approx(float(case.objective(theta)), rel=1e-11)
    assert evaluation.objective == pytest.approx(float(case.objective(theta)), rel=1e-11)
    assert evaluation.kl == pytest.approx(float(case.policy.kl(case.policy.theta, theta)), rel=1e-9, abs=1e-12)
    assert evaluation.entropy == pytest.approx(float(case.policy.distribution(theta).entropy().mean()), rel=1e-11)


def test_the_divergence_runs_from_the_behaviour_policy_to_the_new_one():
    # From N(0, 1) to N(0, 2^2): log 2 + 1/8 - 1/2; the other way it would be -log 2 + 4/2 - 1/2.
    problem = PolicyProblem(
        lambda theta, rows: normal_of(torch.zeros(2, 1)[rows], torch.exp(theta).expand(2, 1)[rows]),
        double(0.0),
        act=torch.zeros(2, 1),
        adv=double(1.0, -1.0),
    )
    assert problem.evaluate(double(math.log(2.0))).kl == pytest.approx(math.log(2.0) - 0.375, rel=1e-12)


@families
def test_at_the_start_the_ratio_is_one_and_the_divergence_zero(family: Family):
    case = DenseProblem(DensePolicy(family))
    start = case.problem.start
    assert start.theta is case.problem.theta_old
    assert start.evaluation.objective == pytest.approx(float(case.adv.mean()), rel=1e-9)
    assert start.evaluation.kl == pytest.approx(0.0, abs=1e-12)
    evaluated = case.problem.evaluate(case.policy.theta)
    assert start.evaluation.objective == pytest.approx(evaluated.objective, rel=1e-12)


@families
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 6, 7, 50])
def test_micro_batches_equal_the_single_batch(family: Family, micro_batch_size: int):
    single = DenseProblem(DensePolicy(family), ent_coef=0.2)
    parts = DenseProblem(DensePolicy(family), ent_coef=0.2, micro_batch_size=micro_batch_size)
    theta = single.policy.moved(0.2)
    expected, got = single.problem.linearise(theta), parts.problem.linearise(theta)
    v = torch.ones_like(theta)
    torch.testing.assert_close(got.gradient, expected.gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got.fisher(v), expected.fisher(v), rtol=1e-12, atol=1e-12)
    assert got.objective == pytest.approx(expected.objective, rel=1e-12)
    for a, b in [
        (parts.problem.evaluate(theta), single.problem.evaluate(theta)),
        (parts.problem.start.evaluation, single.problem.start.evaluation),
    ]:
        assert a.objective == pytest.approx(b.objective, rel=1e-12)
        assert a.kl == pytest.approx(b.kl, rel=1e-11, abs=1e-13)
        assert a.entropy == pytest.approx(b.entropy, rel=1e-12)
        assert (a.action_std is None) == (b.action_std is None)
        if a.action_std is not None:
            assert a.action_std == pytest.approx(b.action_std, rel=1e-12)


SUBSETS = [
    (7, 1.0, [0, 1, 2, 3, 4, 5, 6]),
    (7, 0.9999, [0, 1, 2, 3, 4, 5, 6]),
    (7, 0.43, [0, 2, 4]),
    (10, 0.3, [0, 3, 6]),
    (10, 0.5, [0, 2, 4, 6, 8]),
    (10, 0.75, [0, 1, 2, 3, 5, 6, 7, 8]),  # 7.5 rounds to 8
    (7, 0.1, [0]),
    (7, 1e-9, [0]),
    (1, 0.5, [0]),
]


@pytest.mark.parametrize(("count", "fraction", "rows"), SUBSETS)
@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_fisher_subsampling_takes_evenly_spaced_rows(
    count: int, fraction: float, rows: list[int], micro_batch_size: int | None
):
    case = DenseProblem(DensePolicy(NORMAL, rows=count), fisher_subsampling=fraction, micro_batch_size=micro_batch_size)
    theta = case.policy.theta
    model = case.problem.linearise(theta)
    expected = case.policy.fisher(theta, torch.tensor(rows))
    torch.testing.assert_close(dense(model.fisher, len(theta)), expected, rtol=1e-9, atol=1e-11)
    # Gradient and evaluation still see every row.
    torch.testing.assert_close(model.gradient, case.gradient(theta), rtol=1e-10, atol=1e-13)
    moved = case.policy.moved(0.1)
    assert case.problem.evaluate(moved).kl == pytest.approx(float(case.policy.kl(theta, moved)), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), fraction=st.floats(0.01, 1.0), micro=st.one_of(st.none(), st.integers(1, 8)))
def test_subsampled_rows_are_distinct_in_range_and_in_parts_no_larger_than_the_micro_batch(
    count: int, fraction: float, micro: int | None
):
    seen: list[list[int]] = []
    numbers = torch.arange(count)

    def distribution(theta: Tensor, rows: slice | Tensor) -> Independent:
        seen.append(numbers[rows].tolist())
        return normal_of(theta.expand(len(numbers[rows]), 1), torch.ones(len(numbers[rows]), 1))

    problem = PolicyProblem(
        distribution,
        torch.zeros(1),
        act=torch.zeros(count, 1),
        adv=torch.ones(count),
        micro_batch_size=micro,
        fisher_subsampling=fraction,
    )
    model = problem.linearise(torch.zeros(1))
    seen.clear()
    model.fisher(torch.ones(1))
    rows = [row for part in seen for row in part]
    if rows:  # empty where the graph of a single part was kept
        assert rows == sorted(set(rows))
        assert len(rows) == max(1, round(fraction * count))
    assert all(len(part) <= (micro or count) for part in seen)


def test_a_product_of_the_problem_draws_no_random_number():
    case = DenseProblem(DensePolicy(CATEGORICAL), fisher_subsampling=0.5, micro_batch_size=2)
    before = torch.random.get_rng_state()
    case.problem.linearise(case.policy.theta).fisher(case.policy.theta)
    case.problem.evaluate(case.policy.moved(0.1))
    assert torch.equal(torch.random.get_rng_state(), before)


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
    problem = PolicyProblem(
        distribution,
        theta,
        act=act,
        adv=double(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        micro_batch_size=micro_batch_size,
    )
    # The exponential of a Gaussian has the Gaussian's Fisher matrix.
    expected = torch.diag(torch.cat([(OBS**2).mean(0) * math.exp(-2 * there[2]), double(4.0)]))
    torch.testing.assert_close(dense(problem.linearise(double(*there)).fisher, 3), expected, rtol=1e-10, atol=1e-12)


def test_a_gamma_policy_falls_back_on_the_hessian_of_its_divergence():
    def distribution(theta: Tensor, rows: slice | Tensor) -> Gamma:
        return Gamma(theta[0].expand(6)[rows], theta[1].expand(6)[rows])

    theta, act = double(2.0, 3.0), OBS[:, 0].abs()
    problem = PolicyProblem(distribution, theta, act=act, adv=OBS[:, 1])
    # [[psi'(k), -1/beta], [-1/beta, k / beta^2]] for shape k and rate beta
    expected = torch.tensor([[math.pi**2 / 6 - 1, -1 / 3], [-1 / 3, 2 / 9]], dtype=torch.float64)
    torch.testing.assert_close(dense(problem.linearise(theta).fisher, 2), expected, rtol=1e-8, atol=0)


def test_a_laplace_policy_has_a_fisher_matrix_for_its_location():
    # Its divergence holds |m - m'|, whose second derivative automatic differentiation takes for zero at m = m'.
    def distribution(theta: Tensor, rows: slice | Tensor) -> Laplace:
        return Laplace(theta[0] * OBS[rows, 0], torch.exp(theta[1]).expand(len(OBS[rows])))

    theta, act = double(0.3, 0.0), OBS[:, 1]
    problem = PolicyProblem(distribution, theta, act=act, adv=OBS[:, 1])
    # 1 / b^2 for the location, 1 for the logarithm of the scale
    expected = torch.diag(torch.stack([(OBS[:, 0] ** 2).mean(), torch.tensor(1.0).double()]))
    torch.testing.assert_close(dense(problem.linearise(theta).fisher, 2), expected, rtol=1e-10, atol=1e-12)


# --- what the evaluation does with numbers that are not finite


@families
@pytest.mark.parametrize("validate", [True, False])
def test_parameters_that_are_not_a_number_evaluate_to_numbers_that_are_not_finite(family: Family, validate: bool):
    case = DenseProblem(DensePolicy(family))
    before = Distribution._validate_args
    Distribution.set_default_validate_args(validate)
    try:
        evaluation = case.problem.evaluate(case.policy.theta * math.nan)
    finally:
        Distribution.set_default_validate_args(before)
    assert not evaluation.is_finite


def test_the_behaviour_policy_is_kept_in_float64_for_float32_networks():
    theta = torch.tensor([0.3, -0.2])
    obs = OBS.float()

    def distribution(t: Tensor, rows: slice | Tensor) -> Independent:
        return normal_of(obs[rows] * t, torch.full_like(obs[rows], 0.5))

    problem = PolicyProblem(distribution, theta, act=obs, adv=obs[:, 0])
    moved = theta + torch.tensor([1e-3, 2e-3])
    difference = (obs * moved).double() - (obs * theta).double()
    assert problem.evaluate(moved).kl == pytest.approx(float((2 * difference**2).sum(-1).mean()), rel=1e-10)
    assert problem.linearise(theta).gradient.dtype is torch.float32


@pytest.mark.parametrize("name", ["normal", "categorical-logits", "bernoulli-logits"])
def test_the_objective_is_computed_in_float64_for_float32_networks(name: str):
    family = next(f for f in FAMILIES if f.name == name)
    outputs = torch.randn(50, family.width, generator=torch.Generator().manual_seed(0))

    def distribution(t: Tensor, rows: slice | Tensor) -> Distribution:
        return family.build(*family.own(outputs[rows] * t))

    def log_probability(t: Tensor) -> Tensor:
        parts = [part.double() for part in family.own(outputs * t)]
        if name == "normal":
            return -(((act - parts[0]) / parts[1]) ** 2 / 2 + torch.log(parts[1]) + math.log(2 * math.pi) / 2).sum(-1)
        if name == "categorical-logits":
            return distribution(t, slice(None)).logits.double().log_softmax(-1).gather(1, act[:, None]).squeeze(1)
        return torch.where(act == 1, -torch.log1p(torch.exp(-parts[0])), -torch.log1p(torch.exp(parts[0]))).sum(-1)

    torch.manual_seed(1)
    start, end = torch.ones(1), torch.tensor([1.001])
    act, adv = distribution(start, slice(None)).sample(), torch.randn(50)
    logp_old = log_probability(start)
    problem = PolicyProblem(distribution, start, act=act, adv=adv)
    expected = (torch.exp(log_probability(end) - logp_old) * adv.double()).mean()
    assert problem.evaluate(end).objective == pytest.approx(float(expected), rel=1e-11)
