"""The parameters of TRPO and NPG as Tianshou's high-level API holds them, and their check."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.highlevel.params import algorithm_params
from tianshou.highlevel.params.algorithm_params import ParamTransformerData
from tianshou.highlevel.params.lr_scheduler import LRSchedulerFactoryFactory
from tianshou.highlevel.params.optim import OptimizerFactoryFactory

from trpo_ts.critics import make_critic
from trpo_ts.critics.fit import CriticFit
from trpo_ts.kfac.settings import KFAC
from trpo_ts.npg import NPG
from trpo_ts.policies import make_policy
from trpo_ts.validation.argument_names import explained_parameters
from trpo_ts.validation.parameter_values import check_bool, check_instance, check_real

__all__ = ["NPGParams", "TRPOParams", "check_params"]


@explained_parameters
@dataclass(kw_only=True)
class NPGParams(algorithm_params.NPGParams):
    """The parameters of :class:`trpo_ts.NPG`, which explains them, and those of its policy and critic's optimiser.

    From Tianshou's base class come ``lr``, ``lr_scheduler`` and ``optim`` of the critic, and ``action_scaling``,
    ``action_bound_method`` and ``deterministic_eval`` of the policy.
    """

    cg_iters: int = 10
    cg_damping: float = 0.1
    cg_tolerance: float = 0.9
    preconditioner: KFAC | None = KFAC()
    fisher_subsampling: float = 1.0
    ent_coef: float = 0.0
    critic_fit: CriticFit | None = None
    micro_batch_size: int | None = None

    def create_kwargs(self, data: ParamTransformerData) -> dict[str, Any]:
        """Return the arguments of policy and algorithm, in a dict of names."""
        # Tianshou makes dicts of all dataclasses among the values.
        kept = {name: copy.deepcopy(getattr(self, name)) for name in ("preconditioner", "critic_fit")}
        return {**super().create_kwargs(data), **kept}


@explained_parameters
@dataclass(kw_only=True)
class TRPOParams(NPGParams, algorithm_params.TRPOParams):
    """The parameters of :class:`trpo_ts.TRPO`, which explains them, and those that :class:`NPGParams` names."""

    full_budget: bool = False


_AROUND = {"action_bound_method", "action_scaling", "deterministic_eval", "lr", "lr_scheduler", "optim"}
"""Parameters of the policy and of the critic's optimiser."""


def check_params(params: algorithm_params.NPGParams, algorithm: type[NPG]) -> None:
    """Check every value before environments and networks are built from it.

    A collection of experiments only logs what one of them raises, so that an error must come before they run.

    :param params: this package's or Tianshou's own.
    :param algorithm: what they are for.
    :raises ValueError: for a value outside its range, naming the parameter, the range and the value, and for
        parameters of another algorithm.
    """
    check_instance("params", params, algorithm_params.NPGParams, f"for example {algorithm.__name__}Params()")
    names = {field.name for field in fields(params)}
    unknown = sorted(names - _AROUND - signature(algorithm).parameters.keys())
    if unknown:
        raise ValueError(
            f"params must be {algorithm.__name__}Params, got {type(params).__name__} with {', '.join(unknown)}"
        )
    check_real("lr", params.lr, 0.0)
    if params.optim is not None:
        check_instance("optim", params.optim, OptimizerFactoryFactory, "for example OptimizerFactoryFactoryAdam()")
    if params.lr_scheduler is not None:
        fix = "for example LRSchedulerFactoryFactoryLinear(training_config)"
        check_instance("lr_scheduler", params.lr_scheduler, LRSchedulerFactoryFactory, fix)
    check_bool("deterministic_eval", params.deterministic_eval)
    if params.action_scaling != "default":
        check_bool("action_scaling", params.action_scaling)
    if params.action_bound_method not in ("clip", "tanh", None):
        raise ValueError(f"action_bound_method must be 'clip', 'tanh' or None, got {params.action_bound_method!r}")
    # The ranges of all others are in one place, the algorithm's constructor.
    space = Box(-1.0, 1.0, (1,), np.float32)
    with torch.random.fork_rng(devices=[]):
        algorithm(
            policy=make_policy(space, space, hidden_sizes=(1,)),
            critic=make_critic(space, hidden_sizes=(1,)),
            optim=AdamOptimizerFactory(),
            **{name: getattr(params, name) for name in names - _AROUND},
        )
