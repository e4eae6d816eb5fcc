"""Where K-FAC's model is missing or far from the operator, the solve spends more products; steps use their budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matching import train
from torch import Tensor

from trpo_ts.solver.conjugate_gradient import UNAIDED_TOLERANCE, conjugate_gradient
from trpo_ts.solver.line_search import Evaluation, backtracking_line_search
from trpo_ts.solver.outcomes import StepOutcome

TIANSHOU: dict[str, Any] = {"preconditioner": None, "cg_iters": 10, "cg_damping": 0.1, "cg_tolerance": 0.0}


@pytest.mark.parametrize("kind", ["large inputs", "weight norm", "pruned", "scripted"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_networks_that_the_model_does_not_fit_learn_as_with_plain_products(kind: str):
    """Before, weight-normalised layers ended at -0.214 where plain products ended at -0.172."""
    ours, plain = (
        np.mean([train(kind, seed, updates=25, **settings) for seed in range(3)]) for settings in ({}, TIANSHOU)
    )
    assert ours >= plain


class Model:
    """A preconditioner that is the operator times a factor."""

    def __init__(self, matrix: Tensor, factor: float) -> None:
        self.matrix = factor * matrix

    def solve(self, r: Tensor) -> Tensor:
        return torch.linalg.solve(self.matrix, r)

    def multiply(self, v: Tensor) -> Tensor:
        return self.matrix @ v


def operator(size: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(size, size, generator=generator).double()
    return root @ root.mT + 0.1 * torch.eye(size).double(), torch.randn(size, generator=generator).double()


@pytest.mark.parametrize("factor", [3.0, 1.0, 0.5])
def test_a_model_near_the_operator_is_trusted(factor: float):
    matrix, b = operator()
    model = Model(matrix, factor)
    solution = conjugate_gradient(lambda v: matrix @ v, b, max_iterations=60, tolerance=0.9, preconditioner=model)
    assert solution.iterations == 1


def test_a_model_that_lacks_curvature_is_not_trusted():
    matrix, b = operator()
    weak = Model(torch.eye(30).double(), 1e-3)
    solution = conjugate_gradient(lambda v: matrix @ v, b, max_iterations=60, tolerance=0.9, preconditioner=weak)
    assert solution.relative_residual <= UNAIDED_TOLERANCE
    optimum = float(b.dot(torch.linalg.solve(matrix, b))) ** 0.5
    assert float(b.dot(solution.x) / solution.x.dot(matrix @ solution.x).sqrt()) >= 0.999 * optimum
    tighter = conjugate_gradient(lambda v: matrix @ v, b, max_iterations=60, tolerance=1e-6, preconditioner=weak)
    assert tighter.relative_residual <= 1e-6


def quadratic(kl: float, gain: float = 1.0) -> Callable[[float], Evaluation]:
    """Return candidates whose divergence is quadratic in the fraction, and whose objective is linear in it."""
    return lambda fraction: Evaluation(gain * fraction, kl * fraction**2)


START = Evaluation(0.0, 0.0)
SEARCH: dict[str, Any] = {"max_kl": 0.01, "backtrack_coeff": 0.8, "max_backtracks": 10}


@pytest.mark.parametrize("kl", [0.0101, 0.011, 0.02, 0.5])
def test_a_step_over_the_bound_is_cut_to_it(kl: float):
    result = backtracking_line_search(quadratic(kl), START, **SEARCH, aim_at_bound=True)
    assert result.outcome is StepOutcome.ACCEPTED
    assert result.backtracks == 1
    assert result.evaluation.kl == pytest.approx(0.01, rel=3e-3)
    assert result.evaluation.kl <= 0.01


def test_without_aiming_it_is_tianshous_search():
    result = backtracking_line_search(quadratic(0.0101), START, **SEARCH)
    assert result.fraction == 0.8
    assert result.evaluation.kl == pytest.approx(0.0101 * 0.64)


def test_only_the_first_rejection_aims():
    tried: list[float] = []

    def steep(fraction: float) -> Evaluation:
        tried.append(fraction)
        return Evaluation(fraction, 0.02 if fraction > 0.5 else 0.005)

    backtracking_line_search(steep, START, **SEARCH, aim_at_bound=True)
    aimed = 0.999 * 0.5**0.5
    assert tried == pytest.approx([1.0, aimed, aimed * 0.8, aimed * 0.64])


@pytest.mark.parametrize("kl", [float("inf"), float("nan"), 1e300])
def test_divergences_without_a_use_do_not_break_the_search(kl: float):
    def broken(fraction: float) -> Evaluation:
        return Evaluation(1.0, kl if fraction == 1.0 else 0.005)

    result = backtracking_line_search(broken, START, **SEARCH, aim_at_bound=True)
    assert result.outcome is StepOutcome.ACCEPTED
    assert result.evaluation.kl == 0.005
