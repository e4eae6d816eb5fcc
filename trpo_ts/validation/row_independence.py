"""Whether what a policy makes of a row depends on the other rows of its batch, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.validation.rounding import differ

__all__ = ["check_rows_are_independent"]

_ROWS = 16
"""The rows of the check: acting and an update cut a rollout into batches of other rows, and of other sizes."""


def check_rows_are_independent(policy_function: RowFunction, act: Tensor) -> None:
    """Check that the policy gives rows in a batch the same probabilities as in another batch, up to rounding.

    A batch of one row is not tried: a network that is meant for several environments may not take it.

    :param policy_function: maps parameters and rows to action distributions.
    :param act: the actions of all rows, shape ``(N, ...)``.
    :raises ValueError: when it does not, with the fix.
    """
    theta = policy_function.parameters.read()
    for rows in _spaced(policy_function):
        with torch.no_grad():
            together = policy_function(theta, rows).log_prob(act[rows])
            apart = torch.stack([_apart(policy_function, theta, act, parts) for parts in _cuts(rows, together)])
        together = together.expand_as(apart)
        if differ(apart, together, policy_function, rows, act):
            worst = float((apart - together).abs().nan_to_num().max())
            raise ValueError(
                "policy must give an observation the same distribution whatever other observations are in its batch, "
                f"got log-probabilities that differ by up to {worst:.3g} between two batches: acting and the update "
                "see batches of other sizes, so that no bound on the divergence would hold; take no mean, maximum or "
                "rank over dimension 0 in forward(), and for normalisation nn.LayerNorm, or nn.BatchNorm1d with its "
                "running statistics"
            )


def _cuts(rows: Tensor, logp: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ways to cut rows in two; what decides for others, as the largest does, changes company in one of them."""
    half, quarter = len(rows) // 2, max(1, len(rows) // 4)
    ordered = logp.argsort()
    yield rows[:half], rows[half:]
    yield rows[:quarter], rows[quarter:]
    yield rows[ordered[:half]].sort().values, rows[ordered[half:]].sort().values


def _spaced(policy_function: RowFunction) -> list[Tensor]:
    """Return evenly spaced rows, in passes of no more than one may hold, but two at least; of sequences no neighbours.

    A row that does not follow the one before starts from its recorded state, whatever else is in the batch.
    """
    step = max(-(-policy_function.count // _ROWS), 1 if policy_function.starts is None else 2)
    rows = torch.arange(0, policy_function.count, step, device=policy_function.parameters.device)
    passes = rows.split(max(2, policy_function.micro_batch_size or _ROWS))
    return [part for part in passes if len(part) > 1]


def _apart(policy_function: RowFunction, theta: Tensor, act: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Return the log-probabilities of rows in ascending order, each part of them in a batch of its own."""
    logp = torch.cat([_in_batch_of(policy_function, theta, part, act) for part in parts])
    return logp[torch.cat(list(parts)).argsort()]


def _in_batch_of(policy_function: RowFunction, theta: Tensor, rows: Tensor, act: Tensor) -> Tensor:
    """Return the log-probabilities of rows in a batch of these alone; a single one is put there twice."""
    batch = rows.repeat(2) if len(rows) == 1 else rows
    logp: Tensor = policy_function(theta, batch).log_prob(act[batch])
    return logp[: len(rows)]
