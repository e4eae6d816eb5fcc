"""Trust Region Policy Optimization for Tianshou 2: drop in, keep the trust region, see what each update did.

Importing the package registers the environment ``PointMass1D-v0`` and imports neither torch nor Tianshou; the names
below are imported when they are first used. :mod:`trpo_ts.solver` needs no Tianshou at all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trpo_ts import envs

if TYPE_CHECKING:
    from trpo_ts.agents.agent import Agent
    from trpo_ts.agents.loading import load
    from trpo_ts.kfac.settings import KFAC
    from trpo_ts.npg import NPG
    from trpo_ts.stats import NPGTrainingStats, TRPOTrainingStats
    from trpo_ts.trpo import TRPO

__all__ = ["KFAC", "NPG", "TRPO", "Agent", "NPGTrainingStats", "TRPOTrainingStats", "__version__", "envs", "load"]

__version__ = "0.2.0"
"""The version of the package; the build, the changelog and CITATION.cff have the same."""

_MODULES = {
    "Agent": "trpo_ts.agents.agent",
    "KFAC": "trpo_ts.kfac.settings",
    "NPG": "trpo_ts.npg",
    "TRPO": "trpo_ts.trpo",
    "NPGTrainingStats": "trpo_ts.stats",
    "TRPOTrainingStats": "trpo_ts.stats",
    "load": "trpo_ts.agents.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
