"""TRPO and NPG in Tianshou's high-level API: parameters, factories, experiment builders, safe persistence.

Each class replaces Tianshou's of the same name; needs the extra ``highlevel``.
"""

try:
    import tianshou.highlevel.experiment  # noqa: F401  loads joblib, rliable and SciPy
except ImportError as error:
    raise ImportError(
        f"trpo_ts.highlevel needs packages that are not installed ({error}): in a checkout of trpo_ts, "
        'pip install -c constraints.txt ".[highlevel]"'
    ) from error

from trpo_ts.highlevel.algorithm import NPGAlgorithmFactory, TRPOAlgorithmFactory
from trpo_ts.highlevel.env import EnvFactoryRegistered
from trpo_ts.highlevel.experiment import NPGExperimentBuilder, TRPOExperimentBuilder, TrustRegionExperiment
from trpo_ts.highlevel.logger import LoggerFactoryEveryUpdate
from trpo_ts.highlevel.networks import ActorFactoryMakePolicy, CriticFactoryMakeCritic
from trpo_ts.highlevel.params import NPGParams, TRPOParams
from trpo_ts.highlevel.persistence import StatePersistence

__all__ = [
    "ActorFactoryMakePolicy",
    "CriticFactoryMakeCritic",
    "EnvFactoryRegistered",
    "LoggerFactoryEveryUpdate",
    "NPGAlgorithmFactory",
    "NPGExperimentBuilder",
    "NPGParams",
    "StatePersistence",
    "TRPOAlgorithmFactory",
    "TRPOExperimentBuilder",
    "TRPOParams",
    "TrustRegionExperiment",
]
