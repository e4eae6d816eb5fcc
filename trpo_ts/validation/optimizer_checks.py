"""What the steps of a critic's fit need of its optimiser."""

from __future__ import annotations

from inspect import Parameter, signature

import torch

__all__ = ["check_steps"]


def check_steps(optimizer: torch.optim.Optimizer) -> None:
    """Check that the optimiser can take a step on gradients that are there.

    :param optimizer: torch's.
    :raises ValueError: for one whose step evaluates the loss itself, as L-BFGS does.
    """
    parameters = list(signature(type(optimizer).step).parameters.items())[1:]  # schedulers replace the instance's
    needed = [
        name
        for name, parameter in parameters
        if parameter.default is Parameter.empty
        and parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"optim must make an optimiser whose step() needs no arguments, got {type(optimizer).__name__}, which "
            f"needs {', '.join(needed)}; take AdamOptimizerFactory(lr=1e-3), and for L-BFGS "
            "critic_fit=trpo_ts.critics.LBFGSFit()"
        )
