"""The settings of K-FAC and how they damp the approximation."""

from __future__ import annotations

import math

import pytest
import torch
from dense import dense, gauss_newton_product
from kfac_cases import evaluated, obs_of, row_function
from rollouts import make_actor_policy
from tianshou.data import Batch

from trpo_ts import KFAC
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.policy_map import PolicyMap
from trpo_ts.solver.conjugate_gradient import conjugate_gradient
from trpo_ts.solver.linear_operators import damped


@pytest.mark.parametrize(
    "kwargs", [{"inner_iterations": 0}, {"inner_iterations": 1.5}, {"samples": 0}, {"samples": True}]
)
def test_bad_settings_are_refused(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1"):
        KFAC(**kwargs)


@pytest.mark.parametrize("damping", [-0.1, math.nan, math.inf, "1", None, True])
def test_bad_damping_is_refused(damping):
    with pytest.raises(ValueError, match=f"relative_damping must be a number >= 0, got {damping!r}"):
        KFAC(relative_damping=damping)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("relative", [0.0, 1e-3, 3.0])
def test_the_model_is_damped_relative_to_its_mean_diagonal_at_least_as_the_system(relative, coupled):
    torch.manual_seed(3)
    policy = make_actor_policy(hidden=(5, 4), dtype=torch.float64)
    network, obs = PolicyMap(policy), obs_of(50)
    parameters, theta, forward_pass, metric = evaluated(network, obs, Batch())
    factors, slices = kronecker_factors(forward_pass, metric, coupled=coupled), parameters.slices
    undamped = KroneckerPreconditioner(factors, slices, damping=0.0, inner_iterations=1)
    (std,) = (slices[name] for name in factors.diagonal)
    diagonal = dense(undamped.multiply, theta.numel()).diagonal()
    mean = torch.cat([diagonal[: std.start], diagonal[std.stop :]]).mean()
    assert factors.mean_curvature() == pytest.approx(float(mean), rel=1e-10)
    expected = max(0.01, relative * float(mean))
    v = torch.randn(theta.numel(), dtype=torch.float64)
    damped_preconditioner = KroneckerPreconditioner(factors, slices, damping=expected, inner_iterations=1)
    kfac = KFAC(inner_iterations=4 if coupled else 1, relative_damping=relative)
    preconditioner = kfac.fit(
        row_function(network, obs, Batch()), theta, fisher_metric, damping=0.01, forward_pass=forward_pass
    )
    torch.testing.assert_close(preconditioner.multiply(v), damped_preconditioner.multiply(v))
    assert (expected == 0.01) == (relative < 1.0)


def test_a_model_that_is_damped_more_leads_to_the_same_solution_by_way_of_directions_of_more_curvature():
    torch.manual_seed(4)
    policy = make_actor_policy(hidden=(8, 8), dtype=torch.float64)
    network, obs = PolicyMap(policy), obs_of(300)
    _, theta, forward_pass, metric = evaluated(network, obs, Batch())
    function = row_function(network, obs, Batch())
    operator, b = damped(gauss_newton_product(metric, theta), 0.01), torch.randn(theta.numel(), dtype=torch.float64)
    exact = torch.linalg.solve(dense(operator, theta.numel()), b)
    mean_curvature = []
    for relative in (0.0, 1.0, 10.0):
        preconditioner = KFAC(relative_damping=relative).fit(
            function, theta, fisher_metric, damping=0.01, forward_pass=forward_pass
        )
        x = conjugate_gradient(operator, b, max_iterations=400, tolerance=1e-13, preconditioner=preconditioner).x
        torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-8)
        first = conjugate_gradient(operator, b, max_iterations=1, preconditioner=preconditioner).x
        mean_curvature.append(float(first.dot(operator(first)) / first.dot(first)))
    assert mean_curvature[0] < mean_curvature[1] < mean_curvature[2]
