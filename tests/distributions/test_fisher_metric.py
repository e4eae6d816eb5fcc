"""The interface of Fisher metrics: rows, graphs, distributions that are not known."""

from __future__ import annotations

import pytest
import torch
from dense import UNKNOWN, Family, families
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from trpo_ts.distributions.fisher_metric import fisher_metric


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
def test_the_outputs_carry_the_graph_and_the_product_has_none(family: Family):
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


@pytest.mark.parametrize("distribution", UNKNOWN, ids=lambda d: type(d).__name__)
def test_an_unknown_distribution_has_no_closed_form_metric(distribution: Distribution):
    assert fisher_metric(distribution) is None
