"""The sides of a comparison: each can be set back to the start, and update once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import tianshou.algorithm
from tianshou.utils.torch_utils import policy_within_training_step
from torch import nn

from trpo_ts import KFAC, TRPO
from trpo_ts.critics import GaussNewtonFit
from updates.start import Start

__all__ = [
    "ALL",
    "BASELINE",
    "CLOSE",
    "GAUSS_NEWTON",
    "MICRO_BATCHES",
    "OURS",
    "TIANSHOU_LIKE",
    "Side",
    "TianshouSide",
    "available",
    "build",
]


class Side(Protocol):
    """A TRPO at a start, whoever wrote it."""

    validates: bool
    """Whether torch checks the arguments of distributions where the library is used alone."""

    def reset(self) -> None:
        """Go back to the start: parameters, moments, statistics, rollout."""

    def update(self) -> None:
        """Do what the library does between two rollouts; this is timed."""

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Return policy and critic as they now are, in the modules of the start."""

    def products(self) -> float:
        """Return the Fisher products that conjugate gradient took in the last update."""


class TianshouSide:
    """An algorithm of Tianshou."""

    validates = True

    def __init__(self, start: Start, build: Callable[..., Any], **extra: Any) -> None:
        self._start = start
        self._algorithm = start.algorithm(build, **extra)

    def reset(self) -> None:
        """See `Side`."""
        self._start.restore(self._algorithm)

    def update(self) -> None:
        """See `Side`."""
        with policy_within_training_step(self._algorithm.policy):
            self._stats = self._algorithm.update(self._start.rollout, None, 1)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """See `Side`."""
        return self._algorithm.policy, self._algorithm.critic

    def products(self) -> float:
        """See `Side`; Tianshou's stats do not say, and its count is fixed."""
        return getattr(self._stats, "cg_iterations", 10.0)


def _stable_baselines(start: Start, **settings: Any) -> Side:
    from updates.peer_sb3 import StableBaselinesSide

    return StableBaselinesSide(start, **settings)


def _skrl(start: Start) -> Side:
    from updates.peer_skrl import SkrlSide

    return SkrlSide(start)


BASELINE, OURS, GAUSS_NEWTON = "Tianshou", "trpo_ts", "trpo_ts, Gauss-Newton critic"
CLOSE = "the same, relative damping 0"
MICRO_BATCHES = "trpo_ts, micro-batches of 4,096"
_SIDES: Mapping[str, Callable[[Start], Side]] = {
    BASELINE: lambda start: TianshouSide(start, tianshou.algorithm.TRPO),
    "SB3-contrib": _stable_baselines,
    "SB3-contrib, 10 epochs of minibatches": lambda start: _stable_baselines(start, epochs=10, batch_size=128),
    "skrl": _skrl,
    OURS: lambda start: TianshouSide(start, TRPO),
    GAUSS_NEWTON: lambda start: TianshouSide(start, TRPO, critic_fit=GaussNewtonFit()),
    CLOSE: lambda start: TianshouSide(
        start, TRPO, critic_fit=GaussNewtonFit(), preconditioner=KFAC(relative_damping=0.0)
    ),
    MICRO_BATCHES: lambda start: TianshouSide(start, TRPO, micro_batch_size=4096),
}
TIANSHOU_LIKE = (BASELINE, OURS, GAUSS_NEWTON)
ALL = (BASELINE, "SB3-contrib", "skrl", OURS, GAUSS_NEWTON)


def build(name: str, start: Start) -> Side:
    """Return the side of that name, at the start."""
    return _SIDES[name](start)


def available(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names whose libraries are installed."""
    needs = {name: "sb3_contrib" if name.startswith("SB3") else "skrl" if name == "skrl" else "torch" for name in names}
    return tuple(name for name in names if importlib.util.find_spec(needs[name]))
