"""Masked and product distributions, against the enumeration of all their actions in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from dense import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Beta, Categorical, Distribution, Gamma, Independent, Normal, kl_divergence

from trpo_ts.distributions.constants import frozen
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.policies import MaskedCategorical, Product
from trpo_ts.policies.categorical import JointCategorical
from trpo_ts.solver.divergence import kl_terms
from trpo_ts.solver.surrogate import action_std_terms, entropy_terms
from trpo_ts.validation.distribution_checks import check_divergence, check_joint, check_possible, is_discrete

NVECS = [np.array(4), np.array([3, 3]), np.array([2, 3, 1, 4]), np.array([[2, 3], [4, 1]]), np.full((2, 2), 2)]
nvecs = pytest.mark.parametrize("nvec", NVECS, ids=lambda nvec: str(nvec.tolist()))


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def all_actions(nvec: np.ndarray) -> Tensor:
    """Return all actions, shape ``(S, 1, *nvec.shape)``."""
    actions = list(itertools.product(*(range(n) for n in nvec.ravel())))
    return torch.tensor(actions).reshape(len(actions), 1, *nvec.shape)


def probabilities(nvec: np.ndarray, logits: Tensor) -> Tensor:
    """Return the probability of each action for one row of logits, by the literal product; shape ``(S,)``."""
    components = [part.softmax(-1) for part in logits.split(nvec.ravel().tolist())]
    return torch.stack([torch.stack(p).prod() for p in itertools.product(*components)])


def random_mask(nvec: np.ndarray, seed: int) -> Tensor:
    """Return which categories are invalid, at least one of each component valid; shape ``(nvec.sum(),)``."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in nvec.ravel():
        invalid = rng.random(n) < 0.5
        invalid[rng.integers(n)] = False
        parts.append(invalid)
    return torch.as_tensor(np.concatenate(parts))


# --- several components


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
    for divergence in (kl_divergence(distribution, build(new)), kl_terms(frozen(distribution), frozen(build(new)))):
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


# --- masks


@settings(max_examples=50, deadline=None, derandomize=True)
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
    behaviour = frozen(MaskedCategorical(logits=logits.detach().masked_fill(invalid, -math.inf)))
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
    """Why the class exists; when this fails, torch has mended it."""
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


# --- products


def mixed(rows: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Product:
    outputs = random_logits(rows, 9, seed=seed).to(dtype)
    gaussian = Independent(Normal(outputs[:, :2], outputs[:, 2:4].exp()), 1)
    return Product([gaussian, JointCategorical(np.array([2, 3]))(outputs[:, 4:])])


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


# --- actions that the policy cannot have taken


MASKED = MaskedCategorical(logits=torch.tensor([[0.0, -math.inf], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("distribution", "act", "got"),
    [
        (MASKED, torch.tensor([1, 1]), "got 1 with"),
        (Independent(MaskedCategorical(logits=MASKED.logits[:, None]), 1), torch.tensor([[1], [1]]), r"got \[1\] with"),
        (
            Product([mixed(2).parts[0], Independent(MaskedCategorical(logits=MASKED.logits[:, None]), 1)]),
            torch.tensor([[0.5, 0.5, 1.0], [0.0, 0.0, 1.0]]),
            r"got \[0.5, 0.5, 1.0\] with",
        ),
    ],
    ids=["choice", "choices", "product"],
)
def test_an_impossible_action_is_an_error_with_its_row(distribution: Distribution, act: Tensor, got: str):
    with pytest.raises(ValueError, match=rf"^batch.act must be possible .*{got} probability 0 in row 7;.*mask"):
        check_possible(distribution, act, first_row=7)
    check_possible(distribution, torch.zeros_like(act))
    assert is_discrete(distribution)


def test_a_density_is_not_asked_for_possible_actions():
    assert not is_discrete(Beta(torch.full((2,), 2.0), torch.full((2,), 2.0)))


def test_a_distribution_without_a_support_is_taken_at_its_word():
    class Bare(Normal):
        @property
        def support(self) -> None:
            raise NotImplementedError

    assert not is_discrete(Bare(torch.zeros(1), torch.ones(1), validate_args=False))
