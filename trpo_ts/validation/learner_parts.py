"""What a learner is built of, checked before it is built."""

from __future__ import annotations

from typing import Any

from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import OptimizerFactory
from torch import nn

from trpo_ts.uncompiled import original
from trpo_ts.validation.module_checks import check_layers, check_parameters
from trpo_ts.validation.parameter_values import check_instance

__all__ = ["check_parts"]


def check_parts(*, policy: Any, critic: Any, optim: Any) -> None:
    """Check that each part is of the kind that an update can use.

    :raises ValueError: naming the part, what is wrong and the fix.
    """
    built = "build one with trpo_ts.policies.make_policy"
    check_instance("policy", original(policy), ProbabilisticActorPolicy, built)
    check_instance("critic", critic, nn.Module, "build one with trpo_ts.critics.make_critic")
    check_instance("optim", optim, OptimizerFactory, "for example tianshou's AdamOptimizerFactory(lr=1e-3)")
    for name, network in (("policy", policy), ("critic", critic)):
        check_layers(name, network)
        check_parameters(name, network)
