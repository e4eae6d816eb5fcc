"""Whether the critic's optimiser has all that the critic shall learn, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from trpo_ts.autodiff.module_tree import modules_of, parameters_of

__all__ = ["CriticParameterCheck"]


class CriticParameterCheck:
    """Checks that no parameter of the critic came, thawed or was replaced unseen by its optimiser.

    An optimiser keeps the parameters that it was built with. What it leaves out from the beginning, although it could
    learn, is left out on purpose.

    :param critic: the critic, as the optimiser was built for it.
    :param policy: the policy; it trains the parameters that it shares.
    :param fitted: the optimiser's parameters.
    """

    def __init__(self, critic: nn.Module, policy: nn.Module, fitted: Iterable[nn.Parameter]) -> None:
        self._left_out = _missing(critic, parameters_of(modules_of(policy)), fitted)

    def __call__(self, critic: nn.Module, policys: Iterable[nn.Parameter], fitted: Iterable[nn.Parameter]) -> None:
        """Check the critic as it is now.

        :param critic: the critic.
        :param policys: the parameters of the policy.
        :param fitted: the optimiser's parameters.
        :raises ValueError: naming the parameters that would never be fitted, and the fix.
        """
        missing = _missing(critic, [*policys, *self._left_out], fitted)
        if not missing:
            return
        new = set(map(id, missing))
        names = [name for name, p in critic.named_parameters() if id(p) in new]
        raise ValueError(
            f"critic must have the parameters that its optimiser was built with, got {', '.join(names)}, which the "
            "optimiser does not have and would never fit; after replacing, adding or unfreezing them build the "
            "algorithm anew, load new values into the old critic with critic.load_state_dict(...), or freeze what "
            "shall not learn with requires_grad_(False)"
        )


def _missing(critic: nn.Module, others: Iterable[nn.Parameter], fitted: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters of the critic that may learn and are among neither the others nor the fitted ones."""
    known = {*map(id, others), *map(id, fitted)}
    return [p for p in parameters_of(modules_of(critic)) if p.requires_grad and id(p) not in known]
