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
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.distributions import fisher_metric
from trpo_ts.policy_map import PolicyMap
from trpo_ts.rollout import Rollout
from trpo_ts.runtime import evaluation_mode, update_context
from trpo_ts.solver import conjugate_gradient, damped
from trpo_ts.tianshou_adapter import rollout_of
from updates.start import Start

DAMPING = 0.1
_EXACT, _TOLERANCE = 1000, 3e-4  # the error of the optimum is the square of that of its direction


class Judge:
    r"""Judges directions by their optimality, and critics by their errors, at a start.

    The optimality of :math:`x` is :math:`g^\top x / \sqrt{x^\top C x}` over its largest value, where
    :math:`C = F + cI`: by how much the surrogate rises, to first order, on the way to the trust region's edge.
    """

    def __init__(self, start: Start) -> None:
        algorithm = start.algorithm(TRPO)
        rollouts = [rollout for rollout in (start.rollout, start.held_out) if rollout is not None]
        self._batches = [_rollout_of(algorithm, rollout) for rollout in rollouts]
        with update_context(algorithm), evaluation_mode(algorithm.policy):
            self._policy_function = algorithm._policy_function(self._batches[0])
            problem, start_point = algorithm._problem(self._policy_function, self._batches[0])
            self._linearisation = problem.linearise(start_point)
        self._theta = problem.theta_old
        self._best: dict[float, float] = {}

    def direction(self, damping: float, products: int, preconditioned: bool) -> Tensor:
        """Return what so many products make of the natural gradient, by plain or preconditioned iterations."""
        preconditioner = None
        if preconditioned:
            kfac = KFAC(relative_damping=0.0)
            preconditioner = kfac.fit(
                self._policy_function,
                self._linearisation.theta,
                fisher_metric,
                damping=damping,
                forward_pass=self._linearisation.forward_pass,
            )
        operator, gradient = damped(self._linearisation.fisher, damping), self._linearisation.gradient
        return conjugate_gradient(operator, gradient, max_iterations=products, preconditioner=preconditioner).x

    def optimality(self, x: Tensor, damping: float = DAMPING) -> float:
        """Return the optimality of a direction, at most 1."""
        operator, gradient = damped(self._linearisation.fisher, damping), self._linearisation.gradient
        if damping not in self._best:
            exact = conjugate_gradient(operator, gradient, max_iterations=_EXACT, tolerance=_TOLERANCE)
            self._best[damping] = math.sqrt(float(gradient.dot(exact.x)))
        return float(gradient.dot(x)) / math.sqrt(float(x.dot(operator(x)))) / self._best[damping]

    def step_optimality(self, policy: nn.Module) -> float:
        """Return the optimality of the direction in which the policy has moved from the start."""
        return self.optimality(FlatParameters(PolicyMap(policy)).read() - self._theta)

    def critic_errors(self, critic: nn.Module) -> list[float]:
        """Return the critic's mean squared errors: on the rollout, and on the held-out one if there is one."""
        with torch.no_grad():
            return [float((critic(b.critic_obs[:]).flatten() - b.returns).square().mean()) for b in self._batches]


def _rollout_of(algorithm: TRPO, buffer: Any) -> Rollout:
    """Return the rollout with advantages and returns; the running statistics of returns stay as they are."""
    before = copy.deepcopy(algorithm.ret_rms)
    batch, indices = buffer.sample(0)
    rollout = rollout_of(algorithm._preprocess_batch(batch, buffer, indices))
    algorithm.ret_rms = before
    return rollout
