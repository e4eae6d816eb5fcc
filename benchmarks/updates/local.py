"""What an update sees of a rollout: its batch, and the policy problem's model at the present policy.

Together with the solver's own parts, and only here, the benchmarks reach into the package.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tianshou.data import ReplayBuffer

from trpo_ts import TRPO
from trpo_ts.autodiff.fused_chains import fused_chains
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.solver.problem import Linearisation
from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.runtime import without_validation

__all__ = ["Local", "batch_of", "local"]


@dataclass(frozen=True)
class Local:
    """The policy problem of a rollout at the policy that collected it."""

    parameters: FlatParameters
    model: Linearisation


def batch_of(algorithm: TRPO, rollout: ReplayBuffer) -> Any:
    """Return the batch with advantages and returns; the running statistics of returns stay as they are."""
    before = copy.deepcopy(algorithm.ret_rms)
    batch, indices = rollout.sample(0)
    batch = algorithm._preprocess_batch(batch, rollout, indices)
    algorithm.ret_rms = before
    return batch


def local(algorithm: TRPO, batch: Any) -> Local:
    """Return the problem's local model."""
    with fused_chains(algorithm), without_validation():
        parameters = FlatParameters(ActionDistribution(algorithm.policy).eval())
        problem = algorithm._policy_problem(batch, parameters)
        return Local(parameters, problem.linearise(problem.theta_old))
