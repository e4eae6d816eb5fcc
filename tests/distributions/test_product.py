"""Products of distributions."""

from __future__ import annotations

import pytest
import torch
from enumeration import mixed
from torch import Tensor
from torch.distributions import Categorical, Distribution, Gamma, Independent, Normal, kl_divergence

from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.policies import Product
from trpo_ts.solver.surrogate import action_std_terms, entropy_terms
from trpo_ts.validation.distribution_checks import check_divergence, check_joint


def test_a_product_adds_what_its_parts_say():
    p, q = mixed(seed=0), mixed(seed=1)
    act = p.sample()
    assert (tuple(p.batch_shape), tuple(p.event_shape), act.shape) == ((3,), (4,), (3, 4))
    (gaussian, categories), (other_gaussian, other_categories) = p.parts, q.parts
    torch.testing.assert_close(p.log_prob(act), gaussian.log_prob(act[:, :2]) + categories.log_prob(act[:, 2:].long()))
    torch.testing.assert_close(p.entropy(), gaussian.entropy() + categories.entropy())
    expected = kl_divergence(gaussian, other_gaussian) + kl_divergence(categories, other_categories)
    torch.testing.assert_close(kl_divergence(p, q), expected)
    assert torch.equal(p.mode, torch.cat([gaussian.mode, categories.mode], dim=1))
    assert p.support.check(act).all()
    check_joint(p, 3, (4,))
    check_divergence(p, p)
    assert p.sample((5,)).shape == (5, 3, 4)
    assert p.log_prob(p.sample((5,))).shape == (5, 3)


def test_actions_have_the_dtype_that_holds_all_parts():
    assert mixed(dtype=torch.float32).sample().dtype is torch.float32
    assert mixed().mode.dtype is torch.float64
    assert Product(mixed().parts[1:]).sample().dtype is torch.int64


def test_the_standard_deviation_is_that_of_the_real_components():
    p = mixed()
    assert p.stddev[:, 2:].isnan().all()
    torch.testing.assert_close(action_std_terms(p), p.parts[0].stddev.mean(1))
    assert action_std_terms(Product(p.parts[1:])).isnan().all()


def test_what_one_part_does_not_know_the_product_does_not():
    gamma = Independent(Gamma(torch.ones(3, 1), torch.ones(3, 1)), 1)
    assert fisher_metric(Product([*mixed().parts, gamma])) is None

    class NoEntropy(Normal):
        def entropy(self) -> Tensor:
            raise NotImplementedError

    silent = Independent(NoEntropy(torch.zeros(3, 1), torch.ones(3, 1)), 1)
    assert entropy_terms(Product([silent])) is None


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [Normal(torch.zeros(3, 2), torch.ones(3, 2))],
        [Categorical(logits=torch.zeros(3, 2))],
        [Independent(Normal(torch.zeros(n, 2), torch.ones(n, 2)), 1) for n in (3, 4)],
    ],
    ids=["none", "components", "scalar", "rows"],
)
def test_parts_that_are_no_vectors_of_one_batch_are_refused(parts: list[Distribution]):
    with pytest.raises(ValueError, match=r"^parts must be distributions over vectors"):
        Product(parts)
