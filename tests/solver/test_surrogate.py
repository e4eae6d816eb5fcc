"""The terms of the objective, and what else is averaged over the rows."""

from __future__ import annotations

import math

import torch
from dense import double
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from trpo_ts.solver.surrogate import action_std_terms, entropy_terms, surrogate_terms


def test_the_surrogate_is_the_ratio_times_the_advantage():
    logp, logp_old = torch.log(double(0.2, 0.9, 0.5)), torch.log(double(0.4, 0.3, 0.5))
    got = surrogate_terms(logp, logp_old, double(1.0, -2.0, 0.0))
    torch.testing.assert_close(got, double(0.5, -6.0, 0.0))


def test_its_gradient_at_the_behaviour_policy_is_the_score_times_the_advantage():
    logp_old, adv = double(-1.0, -3.0), double(2.0, -0.5)
    logp = logp_old.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(surrogate_terms(logp, logp_old, adv).sum(), logp)
    torch.testing.assert_close(gradient, adv)


def test_the_entropy_is_that_of_each_row_and_none_without_a_closed_form():
    torch.testing.assert_close(
        entropy_terms(Categorical(probs=torch.full((2, 4), 0.25))), torch.full((2,), math.log(4))
    )
    components = Independent(Normal(torch.zeros(2, 3, 1), torch.ones(2, 3, 1)), 1)
    assert entropy_terms(MixtureSameFamily(Categorical(torch.ones(2, 3)), components)) is None


def test_the_standard_deviation_is_the_mean_over_the_components_of_an_action():
    normal = Independent(Normal(torch.zeros(2, 2), torch.tensor([[1.0, 3.0], [0.5, 0.5]])), 1)
    assert action_std_terms(normal).tolist() == [2.0, 0.5]
    assert action_std_terms(Categorical(torch.ones(2, 3))).isnan().all()
