"""What a report draws over the environment steps: one entry per chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trpo_ts.diagnostics.records import UpdateRecord

__all__ = ["SECTIONS", "Quantity", "Series"]


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    values: Callable[[Sequence[UpdateRecord]], list[float | None]]
    """Returns a value for each of U updates; None where nothing was reported."""
    merge: Callable[..., Any] = np.mean
    """What one point says of several updates, where there are more of them than points."""


@dataclass(frozen=True)
class Quantity:
    """One chart; of several runs, one for each of its series."""

    key: str
    heading: str
    y_title: str
    """Title of the vertical axis, with the unit."""
    caption: str
    series: tuple[Series, ...]
    axis: Mapping[str, Any] = field(default_factory=lambda: {"rangemode": "tozero"})
    """Properties of the vertical axis, as plotly.js takes them."""
    bounded_by_max_kl: bool = False
    marks_rejected: bool = False


def _statistic(field_name: str, name: str, merge: Callable[..., Any] = np.mean) -> Series:
    return Series(name, lambda updates: [getattr(update, field_name) for update in updates], merge)


def _speed(updates: Sequence[UpdateRecord]) -> list[float | None]:
    """Return the environment steps per second of each update."""
    before = [0, *(update.env_steps for update in updates)]
    speeds: list[float | None] = []
    for update, steps_before in zip(updates, before, strict=False):
        known = update.collect_time is not None and update.train_time is not None
        seconds = (update.collect_time or 0.0) + (update.train_time or 0.0)
        speeds.append((update.env_steps - steps_before) / seconds if known and seconds > 0.0 else None)
    return speeds


SECTIONS: Sequence[tuple[str, tuple[Quantity, ...]]] = (
    (
        "Trust region",
        (
            Quantity(
                "kl",
                "KL divergence per update",
                "KL (nats)",
                "Mean KL of the behaviour policy from the new one. The dashed bound holds in each update.",
                (_statistic("kl", "KL", np.max),),
                bounded_by_max_kl=True,
                marks_rejected=True,
            ),
            Quantity(
                "surrogate",
                "Surrogate: expected and achieved",
                "gain (advantage units)",
                "Achieved far below expected: the step leaves the range of the linear model.",
                (
                    _statistic("surrogate_improvement", "achieved"),
                    _statistic("expected_improvement", "expected"),
                ),
            ),
            Quantity(
                "step_fraction",
                "Step fraction",
                "share of the full step",
                "1 is the full step of the quadratic model; 0 a rejected update.",
                (_statistic("step_fraction", "step fraction"),),
                axis={"range": [-0.04, 1.06]},
                marks_rejected=True,
            ),
            Quantity(
                "backtracks",
                "Backtracks of the line search",
                "backtracks (count)",
                "How often the line search shortened the step. A few now and then are normal.",
                (_statistic("backtracks", "backtracks", np.max),),
            ),
        ),
    ),
    (
        "Conjugate gradient",
        (
            Quantity(
                "products",
                "Fisher products",
                "products per solve (count)",
                "At most `cg_iters`; 1 or 2 with the preconditioner.",
                (_statistic("cg_iterations", "products"),),
            ),
            Quantity(
                "residual",
                "Residual of the solve",
                "relative residual (share)",
                "At most `cg_tolerance`, unless the products are used up.",
                (_statistic("cg_residual", "residual"),),
            ),
        ),
    ),
    (
        "Exploration",
        (
            Quantity(
                "entropy",
                "Entropy of the policy",
                "entropy (nats)",
                "Falls slowly in a healthy training.",
                (_statistic("entropy", "entropy"),),
                axis={},
            ),
            Quantity(
                "std",
                "Standard deviation of the policy",
                "std (action units)",
                "Mean over actions; falls slowly. Near 0, exploration has ended.",
                (_statistic("policy_std", "standard deviation"),),
            ),
        ),
    ),
    (
        "Critic",
        (
            Quantity(
                "critic_loss",
                "Loss of the critic",
                "squared error (return units²)",
                "Mean squared error of the fit. It grows along with the returns.",
                (_statistic("vf_loss", "loss"),),
            ),
            Quantity(
                "explained_variance",
                "Explained variance",
                "share (at most 1)",
                "Before the fit, on states that the critic has not seen: 1 is perfect, 0 a constant. Cut at -1.",
                (_statistic("explained_variance", "explained variance"),),
                axis={"autorangeoptions": {"clipmin": -1.0, "include": [0.0, 1.0]}},
            ),
        ),
    ),
    (
        "Time",
        (
            Quantity(
                "time",
                "Time per update",
                "time (s)",
                "Where the time of a training step is spent.",
                (_statistic("collect_time", "collecting"), _statistic("train_time", "updating")),
            ),
            Quantity(
                "speed",
                "Speed",
                "environment steps/s",
                "Collecting and updating together; tests and checkpoints are left out.",
                (Series("speed", _speed),),
            ),
        ),
    ),
)
