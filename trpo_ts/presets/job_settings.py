"""Everything about a training that a preset may set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from trpo_ts.choices import Activation, BoxDistribution, Memory, StdKind
from trpo_ts.envs.tasks import SHAPING
from trpo_ts.validation.argument_names import explained_parameters

__all__ = ["SCHEDULED", "Settings"]

SCHEDULED = ("lr", "max_kl", "gae_lambda", "ent_coef", "cg_damping")
"""Settings that take a schedule."""


@explained_parameters
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training: how long, what is collected, the networks, the critic's fit, TRPO itself.

    Parameters of :class:`trpo_ts.TRPO` have its names and defaults, and are checked there. A text for a number is a
    schedule, such as ``"LinearSchedule(start=0.02, end=0)"``.
    """

    # How long, and how it is tested.
    steps: int = 200_000
    """Environment steps to train for, rounded up to whole updates."""
    test_every: int = 20_000
    """Environment steps between two tests, rounded up to whole updates; 0 for no tests."""
    test_episodes: int = 10
    """Episodes per test, played with the most probable action; every test plays the same ones."""

    # What one update gets.
    num_envs: int = 16
    """Environments that collect side by side."""
    segment: int = 64
    """Environment steps of each environment per update: an update gets num_envs * segment."""
    normalise_observations: bool = False
    """Shift and scale observations by their running mean and standard deviation; for vectors of numbers."""
    max_episode_steps: int | None = None
    """Time limit of an episode; None for the task's own, or 10,000 steps where it has none."""
    image_side: int | None = None
    """Images with longer sides are averaged down to this one; None leaves them. EnvPool prepares images itself."""
    frame_stack: int = 1
    """The last observations that the networks see as one; 1 for the present one alone."""

    # Networks.
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and critic; with a memory, of those behind it."""
    activation: Activation = "tanh"
    """Activation after each hidden layer; smooth ones suit second-order steps."""
    layer_norm: bool = False
    """Normalise hidden layers before their activation."""
    memory: Memory = "none"
    """Recurrent cell of policy and critic, for tasks whose single observations do not tell their state."""
    memory_size: int = 64
    """Width of the cell, and of the layer before it."""
    distribution: BoxDistribution = "gaussian"
    """Distribution of a Box of actions."""
    std: StdKind = "free"
    """Standard deviation of the Gaussians: a parameter per component, or a layer on the features."""
    initial_std: float = 0.6
    """Standard deviation at the start, in units of the action range scaled to [-1, 1]."""
    min_std: float = 0.0
    """Standard deviation below which the Gaussians never fall, in the same units: a bound keeps a policy teachable."""
    noise_steps: int = 4
    """For how many steps gsde holds its noise."""
    mask_key: str | None = None
    """Key of a Dict observation that holds the mask of the valid actions."""

    # The critic.
    critic_fit: str | None = None
    """How the critic is fitted, as in Python: "GaussNewtonFit(steps=2)", MinibatchFit, LBFGSFit; None: Adam."""
    lr: float | str = 1e-3
    """Learning rate of the critic's Adam; GaussNewtonFit and LBFGSFit do not read it."""
    optim_critic_iters: int = 5
    """Adam steps per update without a critic_fit, on each minibatch if there is a batch_size."""
    batch_size: int | None = None
    """Minibatch size of the critic without a critic_fit; None for the whole rollout."""

    # TRPO.
    max_kl: float | str = 0.01
    """Bound on the mean KL divergence of an update, in nats: larger learns faster, smaller is more stable."""
    gamma: float = 0.99
    """Discount factor: rewards further ahead than about 1 / (1 - gamma) steps hardly count."""
    gae_lambda: float | str = 0.95
    """Lambda of generalised advantage estimation: lower trusts the critic more."""
    return_scaling: bool = False
    """Divide the critic's targets by the running standard deviation of the returns."""
    advantage_normalization: bool = True
    """Centre the advantages and scale them to unit variance."""
    ent_coef: float | str = 0.0
    """Weight of the policy's mean entropy in the objective."""
    cg_iters: int = 10
    """Most Fisher products per solve."""
    cg_damping: float | str = 0.1
    """Added to the diagonal of the Fisher matrix."""
    cg_tolerance: float = 0.9
    """Relative residual that ends a solve; 0 always takes cg_iters products."""
    preconditioner: str | None = "KFAC()"
    """Preconditioner of the solve, as in Python: "KFAC(samples=256)"; None for plain conjugate gradient."""
    fisher_subsampling: float = 1.0
    """Share of the rollout from which the Fisher matrix is estimated."""
    full_budget: bool = False
    """Scale the step so that damping uses no part of max_kl."""
    backtrack_coeff: float = 0.8
    """Ratio between one candidate of the line search and the one before."""
    max_backtracks: int = 10
    """Candidates of the line search."""
    repeat: int = 1
    """Policy steps per rollout, within one max_kl."""
    max_batchsize: int = 4096
    """Rows per pass while values are computed; bounds memory."""
    micro_batch_size: int | None = None
    """Rows per pass in the update; None for all at once. Bounds memory, and changes nothing else."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the settings."""
        return tuple(field.name for field in fields(cls))

    @property
    def rollout(self) -> int:
        """Environment steps of an update."""
        return self.num_envs * self.segment

    @property
    def whole_steps(self) -> int:
        """The steps, rounded up to whole updates."""
        return math.ceil(self.steps / self.rollout) * self.rollout

    def shaping(self) -> dict[str, Any]:
        """Return the settings that :func:`trpo_ts.envs.tasks.make_task` takes."""
        return {name: getattr(self, name) for name in SHAPING}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Return settings of which some are given, lists for tuples, as TOML and JSON have them.

        :raises TypeError: for a name that is no setting.
        """
        given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**given)
