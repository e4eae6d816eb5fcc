"""Closed-form Fisher matrices of the families against the Hessian of the divergence and the score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from dense import FAMILIES, Family, families
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Laplace, Normal

from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.distributions.fisher_metric import fisher_metric

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
    log_prob = detached_double(distribution).log_prob(torch.tensor([[1.0, 1.0]]))
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
