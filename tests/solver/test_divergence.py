"""The KL divergence that bounds an update."""

from __future__ import annotations

import math

import pytest
import torch
from dense import double, problem_of
from fisher_cases import normal_of
from torch import Tensor
from torch.distributions import Normal
from torch.distributions.kl import register_kl

from trpo_ts.solver.divergence import kl_terms


def test_the_divergence_runs_from_the_behaviour_policy_to_the_new_one():
    # From N(0, 1) to N(0, 2^2): log 2 + 1/8 - 1/2; the other way it would be -log 2 + 4/2 - 1/2.
    problem, _ = problem_of(
        lambda theta, rows: normal_of(torch.zeros(2, 1)[rows], torch.exp(theta).expand(2, 1)[rows]),
        double(0.0),
        act=torch.zeros(2, 1),
        adv=double(1.0, -1.0),
    )
    assert problem.evaluate(double(math.log(2.0))).kl == pytest.approx(math.log(2.0) - 0.375, rel=1e-12)


class Rounded(Normal):
    """A family whose divergence is what the test says."""


@register_kl(Rounded, Rounded)
def _of_rounded(p: Rounded, q: Rounded) -> Tensor:
    return q.loc


def test_a_divergence_that_rounding_made_negative_is_zero():
    behaviour, policy = Rounded(torch.zeros(3), torch.ones(3)), Rounded(torch.tensor([-1e-17, 0.0, 0.5]), torch.ones(3))
    assert kl_terms(behaviour, policy).tolist() == [0.0, 0.0, 0.5]
