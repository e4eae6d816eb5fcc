"""Whether what a policy makes of a row depends on the other rows of its batch, checked before anything is changed."""

from __future__ import annotations

import torch
from torch import Tensor

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.validation.rounding import differ

__all__ = ["check_rows_are_independent"]

_ROWS = 16
"""The rows of the check: acting and an update cut a rollout into batches of other rows, and of other sizes."""


def check_rows_are_independent(policy: RowFunction, act: Tensor) -> None:
    """Check that the policy gives rows in a batch the same probabilities as in another batch, up to rounding.

    A batch of one row is not tried: a network that is meant for several environments may not take it.

    :param policy: maps parameters and rows to action distributions.
    :param act: the actions of all rows, shape ``(N, ...)``.
    :raises ValueError: when it does not, with the fix.
    """
    theta = policy.parameters.read()
    rows = _spaced(policy)
    if len(rows) < 2:
        return
    with torch.no_grad():
        together = policy(theta, rows).log_prob(act[rows])
        apart = torch.cat([_in_batch_of(policy, theta, part, act) for part in rows.tensor_split(2)])
    if differ(apart, together, policy, rows, act):
        worst = float((apart - together).abs().nan_to_num().max())
        raise ValueError(
            "policy must give an observation the same distribution whatever other observations are in its batch, got "
            f"log-probabilities that differ by up to {worst:.3g} between two batches: "
            "acting and the update see batches of other sizes, so that no bound on the divergence would hold; take no "
            "mean, maximum or rank over dimension 0 in forward(), and nn.LayerNorm, or nn.BatchNorm1d with its "
            "running statistics, for normalisation by the batch"
        )


def _spaced(policy: RowFunction) -> Tensor:
    """Return evenly spaced rows, no more than a pass may hold, but two at least; of sequences no neighbours.

    A row that does not follow the one before starts from its recorded state, whatever else is in the batch.
    """
    most = min(_ROWS, max(2, policy.micro_batch_size or _ROWS))
    step = max(-(-policy.count // most), 1 if policy.starts is None else 2)
    return torch.arange(0, policy.count, step, device=policy.parameters.device)


def _in_batch_of(policy: RowFunction, theta: Tensor, rows: Tensor, act: Tensor) -> Tensor:
    """Return the log-probabilities of rows in a batch of these alone; a single one is put there twice."""
    batch = rows.repeat(2) if len(rows) == 1 else rows
    logp: Tensor = policy(theta, batch).log_prob(act[batch])
    return logp[: len(rows)]
