"""What is remembered of a training run: plain values that survive a trip through JSON unchanged."""

__all__ = [
    "EvaluationRecord",
    "PolicySnapshot",
    "Record",
    "RolloutRecord",
    "UpdateRecord",
]

from dataclasses import dataclass, fields

import numpy as np

from trpo_ts.diagnostics.coercion import as_matrix, as_names, as_numbers
from trpo_ts.validation.parameter_values import check_integer, check_real


@dataclass(frozen=True)
class UpdateRecord:
    """One training step: what was collected and what the update made of it.

    The names of the statistics are those of the training stats of `trpo_ts.TRPO`. A statistic is None where the
    algorithm did not report it, as most are for other algorithms.

    :raises ValueError: if a value is malformed or not finite; the message names it.
    """

    iteration: int
    """Number of the training step, from 1."""
    env_steps: int
    """Environment steps collected since the start, this step's included."""
    episode_returns: tuple[float, ...] = ()
    """Undiscounted returns of the episodes that ended in this step's collect, shape ``(E,)``; E may be 0."""
    kl: float | None = None
    """Mean KL(behaviour policy || new policy) in nats."""
    max_kl: float | None = None
    """Bound on it in this update, in nats."""
    step_size: float | None = None
    """Factor of the search direction that was applied; 0 if none was accepted."""
    step_fraction: float | None = None
    """Applied part of the largest step that the quadratic model allows, in [0, 1]; 0 if none was accepted."""
    backtracks: float | None = None
    """Number of times that the line search shortened the step."""
    accepted: float | None = None
    """1 when the update moved the policy, else 0."""
    surrogate_improvement: float | None = None
    """Gain of the surrogate objective, in units of the advantages."""
    expected_improvement: float | None = None
    """Gain that the linear model of the surrogate predicted for the applied step, in the same units."""
    actor_loss: float | None = None
    """Negative surrogate."""
    vf_loss: float | None = None
    """Loss of the critic, in squared units of the return."""
    entropy: float | None = None
    """Mean entropy of the policy in nats."""
    explained_variance: float | None = None
    """Share of the returns' variance that the critic explained before its fit, at most 1."""
    cg_iterations: float | None = None
    """Iterations of conjugate gradient."""
    cg_residual: float | None = None
    """Norm of conjugate gradient's residual relative to the gradient's."""
    outcome: float | None = None
    """Code of the policy step's outcome, 0 when it was accepted; see `trpo_ts.trust_region.StepOutcome`."""
    gradient_norm: float | None = None
    """Euclidean norm of the policy gradient."""
    policy_std: float | None = None
    """Mean standard deviation of the policy, in units of the action."""
    reductions: float | None = None
    """Number of times that the ranks of a data-parallel training met in the update; 0 in a single process."""
    train_time: float | None = None
    """Seconds spent in the update."""
    collect_time: float | None = None
    """Seconds spent collecting."""

    def __post_init__(self) -> None:
        _replace(self, "iteration", check_integer("iteration", self.iteration, 1))
        _replace(self, "env_steps", check_integer("env_steps", self.env_steps, 0))
        _replace(self, "episode_returns", as_numbers(self.episode_returns, "episode_returns"))
        for name in self.statistics():
            value = getattr(self, name)
            if value is not None:
                _replace(self, name, check_real(name, value))

    @classmethod
    def statistics(cls) -> tuple[str, ...]:
        """Return the names of the update's statistics: all fields but the first three."""
        return tuple(field.name for field in fields(cls))[3:]

    @property
    def return_mean(self) -> float | None:
        """Mean return of the episodes that ended; None if none did."""
        return float(np.mean(self.episode_returns)) if self.episode_returns else None

    @property
    def return_p10(self) -> float | None:
        """Return below which a tenth of the ended episodes lie; None if none ended."""
        return float(np.percentile(self.episode_returns, 10)) if self.episode_returns else None

    @property
    def return_p90(self) -> float | None:
        """Return above which a tenth of the ended episodes lie; None if none ended."""
        return float(np.percentile(self.episode_returns, 90)) if self.episode_returns else None

    @property
    def rejected(self) -> bool:
        """Whether no policy step was accepted, so that the policy stayed as it was.

        Where `accepted` is not reported, as by Tianshou's own TRPO, a step size of 0 says the same.
        """
        sign = self.step_size if self.accepted is None else self.accepted
        return sign == 0.0


@dataclass(frozen=True)
class EvaluationRecord:
    """One test of the policy.

    :raises ValueError: if a value is malformed or not finite; the message names it.
    """

    env_steps: int
    """Environment steps of training collected before the test."""
    episode_returns: tuple[float, ...]
    """Undiscounted returns of the test's episodes, shape ``(E,)``, E >= 1."""

    def __post_init__(self) -> None:
        _replace(self, "env_steps", check_integer("env_steps", self.env_steps, 0))
        _replace(self, "episode_returns", as_numbers(self.episode_returns, "episode_returns"))
        if not self.episode_returns:
            raise ValueError("episode_returns must hold at least one return, got none")

    @property
    def return_mean(self) -> float:
        """Mean return of the test's episodes."""
        return float(np.mean(self.episode_returns))


@dataclass(frozen=True)
class RolloutRecord:
    """One episode of T environment steps.

    Arrays and lists are accepted as well, and kept as tuples. A name may carry a unit: ``"velocity (m/s)"``.

    :raises ValueError: if a value is malformed or not finite, or the lengths do not fit; the message says so.
    """

    observations: tuple[tuple[float, ...], ...]
    """Observations, shape ``(T + 1, D)``: the first and then the one after each step."""
    actions: tuple[tuple[float, ...], ...]
    """Actions, shape ``(T, A)``, T >= 1."""
    rewards: tuple[float, ...]
    """Rewards, shape ``(T,)``."""
    observation_names: tuple[str, ...] = ()
    """Names of the D observation dimensions; ``observation[0]`` and so on if left empty."""
    action_names: tuple[str, ...] = ()
    """Names of the A action dimensions; ``action[0]`` and so on if left empty."""

    def __post_init__(self) -> None:
        _replace(self, "observations", as_matrix(self.observations, "observations"))
        _replace(self, "actions", as_matrix(self.actions, "actions"))
        _replace(self, "rewards", as_numbers(self.rewards, "rewards"))
        lengths = (len(self.observations) - 1, len(self.actions), len(self.rewards))
        if len(set(lengths)) > 1 or lengths[0] < 1:
            raise ValueError(
                "a rollout of T >= 1 steps has T + 1 observations, T actions and T rewards, "
                f"got {lengths[0] + 1}, {lengths[1]} and {lengths[2]}"
            )
        for names, rows, default in (
            ("observation_names", self.observations, "observation"),
            ("action_names", self.actions, "action"),
        ):
            value = as_names(getattr(self, names), names, count=len(rows[0]), default=default)
            _replace(self, names, value)


@dataclass(frozen=True)
class PolicySnapshot:
    """The policy's mean action along one line through the observation space, at one moment of training.

    :raises ValueError: if a value is malformed or not finite, or the lengths differ; the message says which.
    """

    iteration: int
    """Number of updates before the snapshot; 0 is the untrained policy."""
    grid: tuple[float, ...]
    """Values of the varied observation dimension, shape ``(G,)``, G >= 1."""
    mean_action: tuple[float, ...]
    """Mean action at each of them, shape ``(G,)``."""

    def __post_init__(self) -> None:
        _replace(self, "iteration", check_integer("iteration", self.iteration, 0))
        _replace(self, "grid", as_numbers(self.grid, "grid"))
        _replace(self, "mean_action", as_numbers(self.mean_action, "mean_action"))
        if not self.grid or len(self.grid) != len(self.mean_action):
            raise ValueError(
                "a snapshot has one mean action for each of at least one grid value, "
                f"got {len(self.mean_action)} for {len(self.grid)}"
            )


Record = UpdateRecord | EvaluationRecord | RolloutRecord | PolicySnapshot


def _replace(record: object, name: str, value: object) -> None:
    # A frozen dataclass can only normalise its own fields this way.
    object.__setattr__(record, name, value)
