"""The algebra of operators."""

from __future__ import annotations

import pytest
import torch
from dense import dense, double, with_eigenvalues

from trpo_ts.solver.linear_operators import damped, weighted_sum


def test_damping_adds_a_multiple_of_the_identity():
    matrix = with_eigenvalues([1.0, 2.0, 5.0])
    got = dense(damped(lambda v: matrix @ v, 0.3), 3)
    torch.testing.assert_close(got, matrix + 0.3 * torch.eye(3, dtype=torch.float64), rtol=1e-15, atol=0)


def test_weighted_sum_is_the_sum_of_the_matrices():
    first, second = with_eigenvalues([1.0, 2.0, 5.0]), with_eigenvalues([0.0, 1.0, 3.0], seed=1)
    got = dense(weighted_sum([lambda v: first @ v, lambda v: second @ v], [0.25, 0.75]), 3)
    torch.testing.assert_close(got, 0.25 * first + 0.75 * second, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_weighted_sum_of_one_operator_keeps_its_weight(weight: float):
    matrix = with_eigenvalues([1.0, 2.0, 5.0])
    got = dense(weighted_sum([lambda v: matrix @ v], [weight]), 3)
    torch.testing.assert_close(got, weight * matrix, rtol=1e-15, atol=0)


def test_weighted_sum_leaves_its_argument_alone():
    v = double(1.0, 2.0)
    weighted_sum([lambda v: v, lambda v: 2 * v], [0.5, 0.5])(v)
    assert torch.equal(v, double(1.0, 2.0))
