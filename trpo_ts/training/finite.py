"""Environments whose numbers are checked where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tianshou.env import BaseVectorEnv
from tianshou.env.venv_wrappers import VectorEnvWrapper

__all__ = ["FiniteVectorEnv"]


class FiniteVectorEnv(VectorEnvWrapper):
    """Raise where an environment gives an observation or a reward that is not finite.

    An update refuses such a rollout too, but by then a ``VectorEnvNormObs`` has taken the number into its running
    statistics for good, and a policy may have stopped on it with an error about its distribution. So this wrapper
    belongs inside: ``VectorEnvNormObs(FiniteVectorEnv(DummyVectorEnv(...)))``.

    :param venv: the environments.
    """

    def __init__(self, venv: BaseVectorEnv) -> None:
        super().__init__(venv)
        self._steps = 0

    def reset(self, env_id: int | list[int] | np.ndarray | None = None, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Reset as Tianshou does.

        :raises ValueError: when an observation is not finite; it names the environment.
        """
        obs, info = self.venv.reset(env_id, **kwargs)
        self._check("observation", obs, env_id)
        return obs, info

    def step(self, action: Any, id: int | list[int] | np.ndarray | None = None) -> Any:
        """Step as Tianshou does.

        :raises ValueError: when an observation or a reward is not finite; it names the environment and the step.
        """
        result = self.venv.step(action, id)
        self._steps += 1
        self._check("observation", result[0], id)
        self._check("reward", result[1], id)
        return result

    def _check(self, what: str, value: Any, ids: Any) -> None:
        finite = _finite(value)
        if not finite.all():
            row = int(np.argmin(finite))
            environment = row if ids is None else int(np.atleast_1d(ids)[row])
            raise ValueError(
                f"the {what} of an environment must be finite, got {np.asarray(value)[row]!r} from environment "
                f"{environment} after {self._steps} steps of the vector; fix the environment, or clip there"
            )


def _finite(rows: Any) -> np.ndarray:
    """Return for each row whether all numbers in it are finite, shape ``(n,)``."""
    rows = np.asarray(rows)
    if rows.dtype == object:  # dictionaries, or arrays of several shapes
        return np.array([_all_finite(row) for row in rows])
    if rows.dtype.kind != "f":
        return np.ones(len(rows), dtype=bool)
    finite: np.ndarray = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    return finite


def _all_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_all_finite, value.values()))
    value = np.asarray(value)
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())
