"""The KL divergence that bounds an update."""

from __future__ import annotations

import math

import pytest
import torch
from dense import double, problem_of
from fisher_cases import normal_of


def test_the_divergence_runs_from_the_behaviour_policy_to_the_new_one():
    # From N(0, 1) to N(0, 2^2): log 2 + 1/8 - 1/2; the other way it would be -log 2 + 4/2 - 1/2.
    problem, _ = problem_of(
        lambda theta, rows: normal_of(torch.zeros(2, 1)[rows], torch.exp(theta).expand(2, 1)[rows]),
        double(0.0),
        act=torch.zeros(2, 1),
        adv=double(1.0, -1.0),
    )
    assert problem.evaluate(double(math.log(2.0))).kl == pytest.approx(math.log(2.0) - 0.375, rel=1e-12)
