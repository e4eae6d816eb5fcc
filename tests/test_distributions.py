from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from dense import CATEGORICAL, FAMILIES, NORMAL, Family
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    Gamma,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    kl_divergence,
)

from trpo_ts.distributions.constants import frozen
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.validation.distribution_checks import check_joint

families = pytest.mark.parametrize("family", FAMILIES, ids=str)
scored = pytest.mark.parametrize("family", [f for f in FAMILIES if f.quadrature is not None], ids=str)


def flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def unflat(vector: Tensor, like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(
        part.reshape(shape.shape) for part, shape in zip(vector.split([p.numel() for p in like]), like, strict=True)
    )


def columns(linear: Callable[[Sequence[Tensor]], tuple[Tensor, ...]], like: tuple[Tensor, ...]) -> Tensor:
    """Return the matrix of a linear map between tensors of the given shapes, column by column."""
    basis = torch.eye(len(flat(like)), dtype=torch.float64)
    return torch.stack([flat(linear(unflat(column, like))) for column in basis], dim=1)


def metric_in_constructor_arguments(family: Family, parts: tuple[Tensor, ...]) -> Tensor:
    """J^T M J with the Jacobian J of the metric's outputs, for one row."""
    metric = fisher_metric(family.build(*parts))
    matrix = columns(metric.multiply, metric.outputs)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: flat(fisher_metric(family.build(*unflat(z, parts))).outputs), flat(parts)
    )
    return jacobian.mT @ matrix @ jacobian


# --- the Fisher metric


@families
@pytest.mark.parametrize("seed", range(3))
def test_fisher_metric_is_the_hessian_of_the_divergence(family: Family, seed: int):
    parts = family.parts(1, seed)
    hessian = torch.func.hessian(lambda z: family.kl(parts, unflat(z, parts)).sum())(flat(parts))
    torch.testing.assert_close(metric_in_constructor_arguments(family, parts), hessian, rtol=1e-9, atol=1e-10)


@scored
def test_fisher_metric_is_the_expectation_of_the_outer_product_of_the_score(family: Family):
    parts = family.parts(1, seed=4)
    actions, weights = family.quadrature(parts)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0).double(), rtol=1e-12, atol=0)
    scores = torch.autograd.functional.jacobian(
        lambda z: family.build(*unflat(z, parts)).log_prob(actions).flatten(), flat(parts)
    )
    expected = torch.einsum("s,si,sj->ij", weights, scores, scores)
    torch.testing.assert_close(metric_in_constructor_arguments(family, parts), expected, rtol=1e-8, atol=1e-9)


def test_a_normal_has_precision_for_the_mean_and_twice_the_precision_for_the_standard_deviation():
    metric = fisher_metric(Normal(torch.tensor([0.0, 3.0]), torch.tensor([0.5, 2.0])))
    mean, scale = metric.multiply((torch.tensor([1.0, 10.0]), torch.tensor([1.0, 10.0])))
    assert mean.tolist() == pytest.approx([4.0, 2.5])
    assert scale.tolist() == pytest.approx([8.0, 5.0])


def test_a_laplace_has_the_squared_inverse_of_its_scale_for_location_and_scale():
    # The scores are sign(a - m) / b and |a - m| / b^2 - 1 / b, each of variance 1 / b^2.
    distribution = Independent(Laplace(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 2.0]])), 1)
    metric = fisher_metric(distribution)
    for product in metric.multiply((torch.tensor([[1.0, 10.0]]), torch.tensor([[1.0, 10.0]]))):
        assert product[0].tolist() == pytest.approx([4.0, 2.5])
    for product in metric.root((torch.tensor([[1.0, 10.0]]), torch.tensor([[1.0, 10.0]]))):
        assert product[0].tolist() == pytest.approx([2.0, 5.0])
    # log(1 / 2 b) - |a - m| / b for each component
    log_prob = frozen(distribution).log_prob(torch.tensor([[1.0, 1.0]]))
    assert log_prob.dtype is torch.float64
    assert log_prob.item() == pytest.approx((math.log(1.0) - 2.0) + (math.log(0.25) - 1.0), rel=1e-12)


def test_a_bernoulli_has_the_variance_of_its_action_for_the_logit():
    metric = fisher_metric(Bernoulli(probs=torch.tensor([0.5, 0.1], dtype=torch.float64)))
    (product,) = metric.multiply((torch.tensor([1.0, 2.0], dtype=torch.float64),))
    torch.testing.assert_close(product, torch.tensor([0.25, 0.18], dtype=torch.float64))


def test_a_categorical_acts_on_centred_tangents_as_the_covariance_of_its_actions():
    p = torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64)
    metric = fisher_metric(Categorical(probs=p))
    tangent = torch.tensor([[3.0, -1.0, 2.0]], dtype=torch.float64)
    tangent = tangent - (p * tangent).sum()
    (product,) = metric.multiply((tangent,))
    covariance = torch.diag(p[0]) - torch.outer(p[0], p[0])
    torch.testing.assert_close(product[0], covariance @ tangent[0])


@families
@pytest.mark.parametrize("seed", range(3))
def test_the_root_times_its_transpose_is_the_metric(family: Family, seed: int):
    metric = fisher_metric(family.build(*family.parts(1, seed)))
    root = columns(metric.root, metric.outputs)
    torch.testing.assert_close(root @ root.mT, columns(metric.multiply, metric.outputs), rtol=1e-9, atol=1e-11)


@families
def test_fisher_metric_acts_row_by_row(family: Family):
    parts = family.parts(5, seed=2)
    metric = fisher_metric(family.build(*parts))
    tangents = tuple(torch.randn_like(output) for output in metric.outputs)
    together = metric.multiply(tangents)
    for n in range(5):
        alone = fisher_metric(family.build(*(part[n : n + 1] for part in parts)))
        for row, whole in zip(alone.multiply([t[n : n + 1] for t in tangents]), together, strict=True):
            torch.testing.assert_close(whole[n : n + 1], row, rtol=1e-12, atol=1e-14)


@families
def test_the_outputs_carry_the_graph_and_the_product_is_a_constant(family: Family):
    parts = tuple(part.clone().requires_grad_(True) for part in family.parts(2))
    metric = fisher_metric(family.build(*parts))
    assert all(output.requires_grad and output.shape[0] == 2 for output in metric.outputs)
    assert not any(p.requires_grad for p in metric.multiply([torch.ones_like(o).detach() for o in metric.outputs]))


def test_a_standard_deviation_shared_by_all_rows_counts_in_each_of_them():
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    metric = fisher_metric(Independent(Normal(torch.zeros(3, 2, dtype=torch.float64), scale), 1))
    assert [tuple(output.shape) for output in metric.outputs] == [(3, 2), (3, 2)]
    _, product = metric.multiply([torch.ones(3, 2, dtype=torch.float64)] * 2)
    torch.testing.assert_close(product, torch.tensor([[8.0, 0.5]] * 3, dtype=torch.float64))


def test_a_covariance_shared_by_all_rows_counts_in_each_of_them():
    factor = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    shared = fisher_metric(MultivariateNormal(torch.zeros(3, 2, dtype=torch.float64), scale_tril=factor))
    single = fisher_metric(MultivariateNormal(torch.zeros(1, 2, dtype=torch.float64), scale_tril=factor[None]))
    tangents = [torch.ones(1, 2, dtype=torch.float64), torch.tensor([[[1.0, 0.0], [2.0, 3.0]]], dtype=torch.float64)]
    expected = single.multiply(tangents)
    products = shared.multiply([t.expand(3, *t.shape[1:]) for t in tangents])
    for product, row in zip(products, expected, strict=True):
        torch.testing.assert_close(product, row.expand_as(product), rtol=1e-14, atol=0)


def test_impossible_actions_are_constants_of_a_masked_categorical():
    logits = torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False, True, False]])
    metric = fisher_metric(Categorical(logits=logits.masked_fill(mask, -math.inf)))
    jacobian = torch.autograd.functional.jacobian(
        lambda z: fisher_metric(Categorical(logits=z.masked_fill(mask, -math.inf))).outputs[0][0], logits.detach()
    )[:, 0]
    matrix = torch.stack([jacobian.mT @ metric.multiply((column[None],))[0][0] for column in jacobian.mT], dim=1)
    p = logits.detach()[0, [0, 2]].softmax(-1)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    expected[0, 0] = expected[2, 2] = p[0] * p[1]
    expected[0, 2] = expected[2, 0] = -p[0] * p[1]
    torch.testing.assert_close(matrix, expected, rtol=1e-12, atol=1e-15)


# --- frozen


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_frozen_is_the_same_distribution_as_a_constant_in_float64(family: Family, dtype: torch.dtype):
    parts = tuple(part.to(dtype).requires_grad_(True) for part in family.parts(6))
    distribution = family.build(*parts)
    constant = frozen(distribution)
    action = distribution.sample()
    if dtype is torch.float32 and "beta" in family.name:
        action = action.clamp(1e-3, 1 - 1e-3)
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    assert (constant.batch_shape, constant.event_shape) == (distribution.batch_shape, distribution.event_shape)
    # The log-probability of a Bernoulli has the dtype of the action.
    action_in_double = action.double() if action.is_floating_point() else action
    for got, expected in [
        (constant.log_prob(action_in_double), distribution.log_prob(action)),
        (constant.entropy(), distribution.entropy()),
    ]:
        assert got.dtype is torch.float64
        assert not got.requires_grad
        torch.testing.assert_close(got, expected.detach().double(), **tolerance)
    itself = kl_divergence(constant, frozen(distribution))
    torch.testing.assert_close(itself, torch.zeros_like(itself), rtol=0, atol=1e-12)


@families
def test_divergence_of_frozen_distributions_is_the_literal_formula(family: Family):
    old, new = family.parts(8, seed=1), family.parts(8, seed=2)
    got = kl_divergence(frozen(family.build(*old)), frozen(family.build(*new)))
    torch.testing.assert_close(got, family.kl(old, new), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", [NORMAL, CATEGORICAL], ids=str)
def test_frozen_resolves_a_divergence_that_float32_does_not(family: Family):
    old = tuple(part.float() for part in family.parts(64))
    new = tuple(part + 1e-4 * torch.randn_like(part) for part in old)
    literal = family.kl(tuple(p.double() for p in old), tuple(p.double() for p in new)).mean()
    double = kl_divergence(frozen(family.build(*old)), frozen(family.build(*new))).mean()
    assert double == pytest.approx(literal.item(), rel=1e-4)


@pytest.mark.parametrize("family", [f for f in FAMILIES if "multivariate" not in f.name], ids=str)
def test_frozen_does_not_follow_later_changes_of_the_network(family: Family):
    parts = tuple(part.float() for part in family.parts(3))
    constant = frozen(family.build(*parts))
    before = constant.entropy().clone()
    for part in parts:
        part.mul_(0.5)
    assert torch.equal(constant.entropy(), before)


# --- literal numbers, so that no formula of this file is trusted alone


@pytest.mark.parametrize(
    ("old", "new", "kl"),
    [
        # log 2 + (1 + 1) / 8 - 1/2
        (
            Normal(torch.tensor(0.0), torch.tensor(1.0)),
            Normal(torch.tensor(1.0), torch.tensor(2.0)),
            0.4431471805599453,
        ),
        # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75)
        (Categorical(torch.tensor([0.5, 0.5])), Categorical(torch.tensor([0.25, 0.75])), 0.14384103622589042),
        # the same two outcomes
        (Bernoulli(torch.tensor(0.5)), Bernoulli(torch.tensor(0.25)), 0.14384103622589042),
        # uniform against 2 x: -log 2 - E[log x] = 1 - log 2
        (Beta(torch.tensor(1.0), torch.tensor(1.0)), Beta(torch.tensor(2.0), torch.tensor(1.0)), 0.3068528194400547),
        # in two dimensions with covariances I and 4 I: (2/4 - 2 + log 16) / 2
        (
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
            MultivariateNormal(torch.zeros(2), 4 * torch.eye(2)),
            0.6362943611198906,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_divergence_of_frozen_distributions_by_hand(old: Distribution, new: Distribution, kl: float):
    assert kl_divergence(frozen(old), frozen(new)).item() == pytest.approx(kl, rel=1e-7)


# --- distributions that are not known


UNKNOWN = [
    Gamma(torch.ones(3), torch.ones(3)),
    OneHotCategorical(logits=torch.zeros(3, 4)),
    Independent(Gamma(torch.ones(3, 2), torch.ones(3, 2)), 1),
]


@pytest.mark.parametrize("distribution", UNKNOWN, ids=lambda d: type(d).__name__)
def test_an_unknown_distribution_has_no_closed_form_metric(distribution: Distribution):
    assert fisher_metric(distribution) is None


def test_an_unknown_distribution_freezes_to_itself():
    for distribution in UNKNOWN[:2]:
        assert frozen(distribution) is distribution
    base = UNKNOWN[2].base_dist
    assert frozen(UNKNOWN[2]).base_dist is base


class _ShiftedNormal(Normal):
    """A subclass that is another distribution: its mean lies one above ``loc``."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value - 1.0)


def test_a_subclass_that_changes_the_density_keeps_it_when_frozen():
    distribution = _ShiftedNormal(torch.zeros(3), torch.ones(3))
    action = torch.tensor([1.0, 0.0, 2.0])
    torch.testing.assert_close(frozen(distribution).log_prob(action).float(), distribution.log_prob(action))


# --- one distribution per row


def distribution_of_shape(batch: tuple[int, ...], event: tuple[int, ...]) -> Distribution:
    return Independent(Normal(torch.zeros(batch + event), torch.ones(batch + event)), len(event))


@pytest.mark.parametrize(
    ("distribution", "n", "action_shape"),
    [
        (distribution_of_shape((5,), (2,)), 5, (2,)),
        (distribution_of_shape((5,), ()), 5, ()),
        (distribution_of_shape((1,), (2, 3)), 1, [2, 3]),
        (Categorical(logits=torch.zeros(5, 4)), 5, ()),
        (Independent(Categorical(logits=torch.zeros(5, 2, 4)), 1), 5, (2,)),
        (MultivariateNormal(torch.zeros(5, 2), torch.eye(2)), 5, torch.Size([2])),
    ],
    ids=["vector", "scalar", "matrix", "categorical", "multi-categorical", "multivariate normal"],
)
def test_joint_distributions_over_whole_actions_pass(distribution: Distribution, n: int, action_shape: tuple[int, ...]):
    check_joint(distribution, n, action_shape)


@pytest.mark.parametrize(
    ("distribution", "n", "action_shape", "parts"),
    [
        (
            Normal(torch.zeros(5, 2), torch.ones(5, 2)),
            5,
            (2,),
            ["one joint distribution per observation", "Normal", "(5, 2)", "Independent(distribution, 1)"],
        ),
        (
            Normal(torch.zeros(1, 2), torch.ones(1, 2)),
            1,
            (2,),
            ["one joint distribution per observation", "(1, 2)", "Independent(distribution, 1)"],
        ),
        (
            Categorical(logits=torch.zeros(5, 2, 3, 4)),
            5,
            (2, 3),
            ["Categorical", "(5, 2, 3)", "Independent(distribution, 2)"],
        ),
        (
            Normal(torch.zeros(2), torch.ones(2)),
            5,
            (2,),
            ["one distribution per observation", "(2,)", "5 observations"],
        ),
        (Categorical(logits=torch.zeros(4)), 1, (), ["one distribution per observation", "()", "1 observations"]),
        (distribution_of_shape((5,), (2,)), 5, (3,), ["Independent", "(2,)", "(3,)"]),
        (distribution_of_shape((5,), ()), 5, (1,), ["()", "(1,)"]),
        # As many components as rows: only the shape of the actions tells them apart.
        (Normal(torch.zeros(2), torch.ones(2)), 2, (2,), ["Normal", "()", "(2,)"]),
    ],
    ids=[
        "components",
        "components of one row",
        "matrix of components",
        "no rows",
        "no row",
        "other width",
        "scalar",
        "as many components as rows",
    ],
)
def test_a_distribution_that_is_not_joint_is_named_with_its_mend(
    distribution: Distribution, n: int, action_shape: tuple[int, ...], parts: list[str]
):
    with pytest.raises(ValueError, match="must") as caught:
        check_joint(distribution, n, action_shape)
    assert [part for part in parts if part not in str(caught.value)] == []


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4),
    batch=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    event=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    action=st.lists(st.integers(1, 3), max_size=2).map(tuple),
)
def test_check_joint_passes_exactly_the_right_shapes(
    n: int, batch: tuple[int, ...], event: tuple[int, ...], action: tuple[int, ...]
):
    distribution = distribution_of_shape(batch, event)
    if batch == (n,) and event == action:
        check_joint(distribution, n, action)
    else:
        with pytest.raises(ValueError, match="must"):
            check_joint(distribution, n, action)
