r"""Rewards in units of the running standard deviation of their discounted sums.

Each environment keeps :math:`G \leftarrow \gamma G + r`, zero at the start of an episode; rewards are divided by
:math:`\sqrt{\operatorname{Var}[G] + \epsilon}` over all environments and steps so far (Engstrom et al. 2020,
*Implementation Matters in Deep RL*, arXiv:2005.12729, section 3). Their sign and the optimal policy stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tianshou.env import BaseVectorEnv
from tianshou.env.venv_wrappers import VectorEnvWrapper
from tianshou.utils import RunningMeanStd

from trpo_ts.validation.parameter_values import check_real

__all__ = ["VectorEnvNormReward"]


class VectorEnvNormReward(VectorEnvWrapper):
    """Normalise the rewards of a vector environment, as ``VectorEnvNormObs`` does observations.

    The statistics and the sums that run are in every checkpoint of the environments. Returns that a training collector
    reports are in these units; leave the wrapper out of test environments, and theirs are in the environment's.
    ``TRPO(return_scaling=True)`` scales the critic's targets instead, and leaves rewards and returns as they are.

    :param venv: the environments.
    :param gamma: the discount factor of the sums, in [0, 1]; the algorithm's.
    :param update_statistics: whether each step is included in the statistics.
    :raises ValueError: for a ``gamma`` outside its range.
    """

    def __init__(self, venv: BaseVectorEnv, gamma: float = 0.99, *, update_statistics: bool = True) -> None:
        super().__init__(venv)
        self.gamma = check_real("gamma", gamma, 0.0, 1.0)
        self.update_statistics = update_statistics
        self.return_rms = RunningMeanStd(clip_max=None, epsilon=1e-8)
        self.running_returns = np.zeros(len(venv))

    def reset(self, env_id: int | list[int] | np.ndarray | None = None, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Reset as Tianshou does, and the sums of these environments."""
        self.begin(env_id)
        return self.venv.reset(env_id, **kwargs)

    def step(self, action: Any, id: int | list[int] | np.ndarray | None = None) -> Any:
        """Step as Tianshou does, and return rewards in units of the running standard deviation."""
        obs, rewards, terminated, truncated, infos = self.venv.step(action, id)
        return obs, self.normalised(rewards, id), terminated, truncated, infos

    def begin(self, env_id: Any) -> None:
        """Begin the sums of new episodes."""
        self.running_returns[slice(None) if env_id is None else env_id] = 0.0

    def normalised(self, rewards: np.ndarray, env_id: Any) -> np.ndarray:
        """Return the rewards of a step of some environments, normalised, and include them in the statistics."""
        rows = slice(None) if env_id is None else env_id
        self.running_returns[rows] = self.gamma * self.running_returns[rows] + rewards
        if self.update_statistics:
            self.return_rms.update(np.atleast_1d(self.running_returns[rows]))
        scaled: np.ndarray = rewards / np.sqrt(self.return_rms.var + self.return_rms.eps)
        return scaled
