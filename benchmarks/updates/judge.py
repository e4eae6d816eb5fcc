"""How good a step is: its direction against the exact natural gradient, its critic against returns.

Only this file imports the package's solver; everything else uses its public classes.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from trpo_ts import KFAC, TRPO
from trpo_ts.natural_gradient.conjugate_gradient import conjugate_gradient
from trpo_ts.natural_gradient.fisher import damped
from trpo_ts.natural_gradient.fused import fused_chains
from trpo_ts.natural_gradient.parameters import FlatParameters
from trpo_ts.rollout import ActionDistribution, without_validation
from updates.start import Start

DAMPING = 0.1
_EXACT, _TOLERANCE = 1000, 3e-4  # the error of the optimum is the square of that of its direction


class Judge:
    r"""Judges directions by their optimality, and critics by their errors, at a start.

    The optimality of :math:`x` is :math:`g^\top x / \sqrt{x^\top A x}` over its largest value, where
    :math:`A = F + cI`: by how much the surrogate rises, to first order, on the way to the trust region's edge.
    """

    def __init__(self, start: Start) -> None:
        algorithm = start.algorithm(TRPO)
        rollouts = [rollout for rollout in (start.rollout, start.held_out) if rollout is not None]
        self._batches = [_batch_of(algorithm, rollout) for rollout in rollouts]
        with fused_chains(algorithm), without_validation():
            self._parameters = FlatParameters(ActionDistribution(algorithm.policy).eval())
            problem = algorithm._policy_problem(self._batches[0], self._parameters)
            self._model = problem.linearise(problem.theta_old)
        self._theta = self._parameters.read()
        self._best: dict[float, float] = {}

    def direction(self, damping: float, products: int, preconditioned: bool) -> Tensor:
        """Return what so many products make of the natural gradient, by plain or preconditioned iterations."""
        model, moments = None, self._model.moments
        if preconditioned and moments is not None:
            model = KFAC(relative_damping=0.0).at(moments, self._parameters.slices, damping)
        operator = damped(self._model.fisher, damping)
        return conjugate_gradient(operator, self._model.gradient, max_iterations=products, preconditioner=model).x

    def optimality(self, x: Tensor, damping: float = DAMPING) -> float:
        """Return the optimality of a direction, at most 1."""
        operator, gradient = damped(self._model.fisher, damping), self._model.gradient
        if damping not in self._best:
            exact = conjugate_gradient(operator, gradient, max_iterations=_EXACT, tolerance=_TOLERANCE)
            self._best[damping] = math.sqrt(float(gradient.dot(exact.x)))
        return float(gradient.dot(x)) / math.sqrt(float(x.dot(operator(x)))) / self._best[damping]

    def step_optimality(self, policy: nn.Module) -> float:
        """Return the optimality of the direction in which the policy has moved from the start."""
        return self.optimality(FlatParameters(ActionDistribution(policy)).read() - self._theta)

    def critic_errors(self, critic: nn.Module) -> list[float]:
        """Return the critic's mean squared errors: on the rollout, and on the held-out one if there is one."""
        with torch.no_grad():
            return [float((critic(b.obs).flatten() - b.returns).square().mean()) for b in self._batches]


def _batch_of(algorithm: TRPO, rollout: Any) -> Any:
    """Return the batch with advantages and returns; the running statistics of returns stay as they are."""
    before = copy.deepcopy(algorithm.ret_rms)
    batch, indices = rollout.sample(0)
    batch = algorithm._preprocess_batch(batch, rollout, indices)
    algorithm.ret_rms = before
    return batch
