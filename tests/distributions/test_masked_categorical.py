"""Masked categories, against the enumeration of all actions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from enumeration import random_logits, random_mask
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from torch.distributions import Categorical, kl_divergence

from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.policies import MaskedCategorical
from trpo_ts.policies.categorical import JointCategorical


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


@examples(50)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    ent_coef=st.sampled_from([0.01, 1.0, 100.0]),
)
def test_impossible_categories_leave_every_gradient_finite_and_without_them(
    seed: int, scale: float, dtype: torch.dtype, ent_coef: float
):
    invalid = random_mask(np.array(6), seed)
    logits = (scale * random_logits(4, 6, seed=seed)).to(dtype).requires_grad_(True)
    distribution = MaskedCategorical(logits=logits.masked_fill(invalid, -math.inf))
    behaviour = detached_double(MaskedCategorical(logits=logits.detach().masked_fill(invalid, -math.inf)))
    act = distribution.sample()
    assert not invalid[act].any()
    terms = (
        distribution.log_prob(act).exp()
        + ent_coef * distribution.entropy()
        + kl_divergence(behaviour, distribution).to(dtype)
    )
    (gradient,) = torch.autograd.grad(terms.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[:, invalid] == 0).all()
    alone = logits.detach()[:, ~invalid].requires_grad_(True)
    plain = Categorical(logits=alone)
    places = (invalid.logical_not().cumsum(0) - 1)[act]
    expected = torch.autograd.grad((plain.log_prob(places).exp() + ent_coef * plain.entropy()).sum(), alone)[0]
    tolerance = (1e-4 if dtype is torch.float32 else 1e-11) * max(1.0, ent_coef)
    torch.testing.assert_close(gradient[:, ~invalid], expected, rtol=tolerance, atol=tolerance)


def test_the_entropy_of_torch_would_overflow_there():
    """Why the class exists; when this fails, torch has fixed it."""
    logits = torch.zeros(1, 2, requires_grad=True)
    masked = logits.masked_fill(torch.tensor([False, True]), -math.inf)
    (gradient,) = torch.autograd.grad(2.0 * Categorical(logits=masked).entropy().sum(), logits)
    assert gradient.isnan().any()


def test_the_mode_is_valid_however_improbable():
    logits = torch.tensor([[-1e30, 1e30, -math.inf], [-math.inf, -1e4, -2e4]])
    assert MaskedCategorical(logits=logits).mode.tolist() == [1, 1]
    invalid = torch.tensor([[False, True, True]])
    only = MaskedCategorical(logits=torch.tensor([[-1e30, 1e30, 5.0]]).masked_fill(invalid, -math.inf))
    assert only.mode.tolist() == only.sample().tolist() == [0]
    assert only.probs.tolist() == [[1.0, 0.0, 0.0]]
    assert only.entropy().tolist() == [0.0]


def test_a_policy_that_gives_up_a_possible_action_is_infinitely_far():
    old = MaskedCategorical(logits=torch.zeros(1, 2))
    new = MaskedCategorical(logits=torch.tensor([[0.0, -math.inf]]))
    assert kl_divergence(old, new).tolist() == [math.inf]
    assert kl_divergence(new, old).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("nvec", [np.array(3), np.array([2, 3])], ids=str)
def test_a_mask_that_leaves_nothing_is_an_error(nvec: np.ndarray):
    logits = torch.zeros(4, int(nvec.sum()))
    logits[2, -3:] = -math.inf
    with pytest.raises(ValueError, match=r"mask must leave every component a valid category, .* row 2 of 4"):
        JointCategorical(nvec, masked=True)(logits)
