"""Distributions that differ in how they are sampled."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Beta, kl_divergence

from trpo_ts.distributions.samplers import OpenBeta


def test_samples_of_an_open_beta_keep_off_the_ends_and_follow_torchs_distribution():
    torch.manual_seed(0)
    extreme = OpenBeta(torch.tensor([0.01, 1e6]), torch.tensor([0.01, 1.001]))
    drawn = extreme.sample((10_000,))
    assert 0.0 < float(drawn.min()) <= float(drawn.max()) < 1.0
    assert extreme.log_prob(drawn).isfinite().all()
    usual, twin = OpenBeta(*torch.tensor([2.0, 3.0])), Beta(*torch.tensor([2.0, 3.0]))
    assert float(kl_divergence(usual, twin)) == 0.0
    drawn = usual.sample((50_000,))
    assert float(drawn.mean()) == pytest.approx(float(twin.mean), abs=5e-3)
    assert float(drawn.std()) == pytest.approx(float(twin.stddev), abs=5e-3)
