"""The length of the full step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trpo_ts.solver.step_size import full_step_size


@pytest.mark.parametrize(
    ("max_kl", "curvature", "expected"),
    [(0.5, 1.0, 1.0), (0.01, 2.0, 0.1), (0.02, 1e-4, 20.0), (2.0, 1e40, 2e-20)],
)
def test_step_size_is_the_root_of_twice_the_bound_over_the_curvature(max_kl: float, curvature: float, expected: float):
    assert full_step_size(max_kl, curvature) == pytest.approx(expected, rel=1e-14)


@given(max_kl=st.floats(1e-8, 10), curvature=st.floats(1e-30, 1e30))
def test_at_the_step_size_the_quadratic_model_of_the_divergence_is_the_bound(max_kl: float, curvature: float):
    assert 0.5 * full_step_size(max_kl, curvature) ** 2 * curvature == pytest.approx(max_kl, rel=1e-12)
