"""The state of a critic's optimiser: from one that had more parameters, checked, and moved with the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["check_moments", "follow_parameters", "of_own_parameters"]

_SHAPED_AS_THE_PARAMETER = {
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer"),
    *("square_avg", "grad_avg", "acc_delta", "sum", "ax", "prev", "step_size"),
}
"""Names of moments in torch's optimisers."""


def of_own_parameters(
    state: dict[str, Any], all_parameters: Sequence[nn.Parameter], own_parameters: Sequence[nn.Parameter]
) -> dict[str, Any]:
    """Return the state of an optimiser of the critic's own parameters, given one of all its parameters.

    Tianshou's optimiser has the parameters that the critic shares with the policy too. Its moments of the others are
    taken, each with its parameter; those of shared ones have no use here, where the policy's step moves them.

    :param state: the optimiser's ``state_dict()``; returned as it is if it is one of the own parameters.
    :param all_parameters: the critic's, in the order of ``critic.parameters()``.
    :param own_parameters: those that this optimiser has, in its order.
    """
    groups = state["param_groups"]
    indices = [index for group in groups for index in group["params"]]
    if len(groups) != 1 or len(indices) != len(all_parameters) or len(indices) == len(own_parameters):
        return state
    index_of = {id(parameter): index for parameter, index in zip(all_parameters, indices, strict=True)}
    own = [index_of[id(parameter)] for parameter in own_parameters]
    moments = {new: state["state"][old] for new, old in enumerate(own) if old in state["state"]}
    return {"state": moments, "param_groups": [{**groups[0], "params": list(range(len(own)))}]}


def check_moments(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> None:
    """Check that moments have the shapes of their parameters, which torch finds out at the next step or never.

    :param state: the optimiser's ``state_dict()``.
    :param parameters: the optimiser's, in its order.
    :raises ValueError: for one of another shape, or of a parameter that is not there.
    """
    for index, moments in state["state"].items():
        if index not in range(len(parameters)):
            raise ValueError(f"the optimiser must have {len(parameters)} parameters, got the state of number {index}")
        for name, value in moments.items():
            shape = parameters[index].shape
            if name in _SHAPED_AS_THE_PARAMETER and isinstance(value, Tensor) and value.shape != shape:
                raise ValueError(
                    f"{name} of the optimiser's parameter {index} must be of shape {tuple(shape)}, "
                    f"got {tuple(value.shape)}"
                )


def follow_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments the dtypes and devices of their parameters, where these were moved since the last step.

    ``module.to(...)`` moves parameters and leaves their optimiser behind. Loading a state converts, as torch defines it
    for each optimiser.

    :param optimizer: torch's.
    """
    if any(_left_behind(p, moments) for p, moments in optimizer.state.items()):
        optimizer.load_state_dict(optimizer.state_dict())


def _left_behind(parameter: Tensor, moments: dict[str, Any]) -> bool:
    return any(
        name in _SHAPED_AS_THE_PARAMETER
        and isinstance(value, Tensor)
        and value.is_floating_point()
        and (value.dtype != parameter.dtype or value.device != parameter.device)
        for name, value in moments.items()
    )
