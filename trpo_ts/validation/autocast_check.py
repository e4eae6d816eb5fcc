"""Whether a policy acts within its caller's autocast as an update evaluates it outside of it."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.runtime import callers_autocast
from trpo_ts.validation.policy_function_checks import log_probs, spaced_rows
from trpo_ts.validation.rounding import differ

__all__ = ["check_autocast"]

_ROWS = 32


def check_autocast(policy_function: RowFunction, act: Tensor) -> None:
    """Check that the policy computes the same within the autocast that surrounds the update, if there is one.

    Who surrounds the update mostly surrounds the collecting too, and the policy then acts in half precision.

    :param policy_function: maps parameters and rows to action distributions.
    :param act: the actions of all rows, shape ``(N, ...)``.
    :raises ValueError: when it does not, with the fix.
    """
    dtypes, passes = callers_autocast(), spaced_rows(policy_function, _ROWS)
    outside = log_probs(policy_function.acting, passes, act)
    with ExitStack() as stack:
        for kind, dtype in dtypes.items():
            stack.enter_context(torch.autocast(kind, dtype=dtype))
        within = log_probs(policy_function.acting, passes, act)
    if differ(within.to(outside), outside, policy_function, passes[0], act):
        named = ", ".join(f"{dtype} on {kind}" for kind, dtype in dtypes.items())
        raise ValueError(
            f"policy must not depend on torch.autocast around an update, got {named}, within which it gives "
            "other probabilities: max_kl would hold for a policy that does not act; collect and update outside of it, "
            "and for a network in half precision use torch.autocast within its forward(), with .float() on the outputs"
        )
