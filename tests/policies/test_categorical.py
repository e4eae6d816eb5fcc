"""Several categorical components, against the enumeration of all actions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from enumeration import all_actions, nvecs, probabilities, random_logits, random_mask
from torch.distributions import Categorical, kl_divergence

from trpo_ts.distributions.detached_double import detached_double
from trpo_ts.policies.categorical import JointCategorical
from trpo_ts.solver.divergence import kl_terms


@nvecs
@pytest.mark.parametrize("masked", [False, True])
def test_log_prob_entropy_and_divergence_are_those_of_the_enumeration(nvec: np.ndarray, masked: bool):
    build = JointCategorical(nvec, masked=masked)
    invalid = random_mask(nvec, 0) if masked else torch.zeros(int(nvec.sum()), dtype=torch.bool)
    old, new = (random_logits(1, int(nvec.sum()), seed=s).masked_fill(invalid, -math.inf) for s in (1, 2))
    p, q = probabilities(nvec, old[0]), probabilities(nvec, new[0])
    distribution = build(old)
    assert (tuple(distribution.batch_shape), tuple(distribution.event_shape)) == ((1,), nvec.shape)
    log_prob = distribution.log_prob(all_actions(nvec)).flatten()
    torch.testing.assert_close(log_prob.exp(), p, rtol=1e-12, atol=0)
    assert torch.equal(log_prob.isneginf(), p == 0)
    possible = p > 0
    torch.testing.assert_close(distribution.entropy()[0], -(p * p.log())[possible].sum(), rtol=1e-12, atol=1e-14)
    expected = (p * (p / q).log())[possible].sum()
    for divergence in (
        kl_divergence(distribution, build(new)),
        kl_terms(detached_double(distribution), detached_double(build(new))),
    ):
        torch.testing.assert_close(divergence[0], expected, rtol=1e-12, atol=1e-14)
    assert distribution.log_prob(distribution.mode).item() == pytest.approx(p.max().log().item(), rel=1e-12)


@nvecs
def test_components_are_drawn_by_their_probabilities_and_never_beyond_their_number(nvec: np.ndarray):
    torch.manual_seed(0)
    logits = random_logits(1, int(nvec.sum()))
    distribution = JointCategorical(nvec)(logits.expand(40_000, -1))
    sample = distribution.sample()
    assert sample.shape == (40_000, *nvec.shape)
    assert (sample < torch.as_tensor(nvec)).all()
    columns = sample.reshape(len(sample), -1)
    for column, part in zip(columns.T, logits[0].split(nvec.ravel().tolist()), strict=True):
        frequency = torch.bincount(column, minlength=len(part)) / len(sample)
        torch.testing.assert_close(frequency.double(), part.softmax(-1), rtol=0, atol=0.015)  # 6 standard errors


def test_equal_components_are_plain_categories_without_padding():
    distribution = JointCategorical(np.array([3, 3]))(random_logits(5, 6))
    assert type(distribution.base_dist) is Categorical
    assert distribution.base_dist.probs.shape == (5, 2, 3)
