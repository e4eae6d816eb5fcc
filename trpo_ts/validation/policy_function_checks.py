"""What a step needs of a policy as a function of its parameters and rows, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.checkpoint import CheckpointFunction

from trpo_ts.autodiff.flat_parameters import graph_nodes
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import Rows
from trpo_ts.runtime import generator_positions
from trpo_ts.validation.distribution_checks import (
    check_divergence,
    check_joint,
    check_possible,
    check_terms,
    is_discrete,
)
from trpo_ts.validation.rounding import differ
from trpo_ts.validation.row_independence import check_rows_are_independent

__all__ = [
    "acting_as_promised",
    "check_actions_possible",
    "check_distribution",
    "draws_random_numbers",
    "log_probs",
    "spaced_rows",
]

_ROWS = 32
"""The rows of a check that is made once for a policy."""

_FEW = 8
"""The rows of one that is made in every update."""

_LITTLE = 1e-4
"""A change of the parameters after which a distribution differs, so that its divergence can be tried."""


def check_distribution(policy_function: RowFunction, act: Tensor) -> Distribution:
    """Check that the policy's distributions are such as a step can use, and return those of the first rows.

    :param policy_function: maps parameters and rows to action distributions.
    :param act: the actions of all rows, shape ``(N, ...)``.
    :raises ValueError: for what is no distribution, one that is not joint over whole actions or has no KL divergence,
        log-probabilities, divergences or entropies that are not one for each row, a parameter that is reached other
        than as an attribute of its module, or a distribution that depends on other rows; with the fix.
    """
    theta = policy_function.parameters.read()
    rows = _first_rows(policy_function, _ROWS)
    with torch.enable_grad():
        distribution = policy_function(theta, rows)
        if not isinstance(distribution, Distribution):
            raise ValueError(
                f"policy must return a torch.distributions.Distribution, got {type(distribution).__name__}"
            )
        check_joint(distribution, rows.stop, act.shape[1:])
        check_terms(distribution, act[rows])
        policy_function.parameters.check_call(distribution.log_prob(act[rows]), "policy")
    with torch.no_grad():
        moved = theta + _LITTLE * (1.0 + theta.abs())
        check_divergence(distribution, cast(Distribution, policy_function(moved, rows)))
    _check_differentiable(policy_function, theta, rows, act)
    _check_function(policy_function, theta, act)
    check_rows_are_independent(policy_function, act)
    return distribution


def _first_rows(policy_function: RowFunction, count: int) -> slice:
    """Return at most ``count`` rows, no more than a pass may hold."""
    return slice(0, min(count, policy_function.count, policy_function.micro_batch_size or count))


def spaced_rows(policy_function: RowFunction, count: int) -> list[slice]:
    """Return at most ``count`` evenly spaced rows, in passes that hold no more than a pass may.

    The first rows alone may tell nothing: where their masks allow a single action, its probability is always 1.
    """
    step = -(-policy_function.count // count)
    length = step * (policy_function.micro_batch_size or count)
    return [
        slice(begin, min(begin + length, policy_function.count), step)
        for begin in range(0, policy_function.count, length)
    ]


def log_probs(distributions: Callable[[Rows], Distribution], passes: list[slice], act: Tensor) -> Tensor:
    """Return the log-probabilities of the actions of some rows, pass by pass, without a graph."""
    with torch.no_grad():
        return torch.cat([distributions(rows).log_prob(act[rows]) for rows in passes])


def _check_differentiable(policy_function: RowFunction, theta: Tensor, rows: slice, act: Tensor) -> None:
    """Check that the gradient by way of the parameter vector can be taken."""
    with torch.enable_grad():
        leaf = theta.clone().requires_grad_(True)
        logp = policy_function(leaf, rows).log_prob(act[rows]).sum()
        # This node computes again in its backward pass, when the parameter vector is no longer in place.
        if any(getattr(type(node), "_forward_cls", None) is CheckpointFunction for node in graph_nodes(logp)):
            raise ValueError(
                "policy must not use checkpoint(..., use_reentrant=True), whose gradients torch.autograd.grad cannot "
                "take; set use_reentrant=False"
            )
        try:
            if logp.requires_grad:
                torch.autograd.grad(logp, leaf, allow_unused=True)
        except RuntimeError as error:
            raise ValueError(f"policy must be differentiable by torch.autograd.grad, got: {error}") from error


def _check_function(policy_function: RowFunction, theta: Tensor, act: Tensor) -> None:
    """Check that the policy is a function of its parameters and its observations, and acts as it is evaluated."""
    passes = spaced_rows(policy_function, _ROWS)
    evaluated = partial(policy_function, theta)
    first, again, acting = (log_probs(each, passes, act) for each in (evaluated, evaluated, policy_function.acting))
    if not _same(first, again):
        raise ValueError(
            "policy must be a function of its parameters and observations, got two different results for the same "
            "observations: draw no random numbers in forward() in evaluation mode (F.dropout needs "
            "training=self.training), and keep no state there"
        )
    if differ(first, acting, policy_function, passes[0], act):
        raise ValueError(
            "policy must compute with its parameters as plain tensors, got another result when its parameters were "
            "replaced by tensors of equal values: look for a Tensor subclass, or a cached copy of a parameter"
        )


def draws_random_numbers(policy_function: RowFunction) -> bool:
    """Whether evaluating the policy moves a random generator; one that another thread moves is looked at again."""
    theta = policy_function.parameters.read()
    rows = _first_rows(policy_function, _FEW)
    for _ in range(_LOOKS):
        before = generator_positions()
        with torch.no_grad():
            policy_function(theta, rows)
        if generator_positions() == before:
            return False
    return True


_LOOKS = 4


def _same(left: Tensor, right: Tensor) -> bool:
    tolerance = torch.finfo(left.dtype).eps ** 0.5
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


@contextmanager
def acting_as_promised(policy_function: RowFunction, act: Tensor, theta: Tensor) -> Iterator[None]:
    """Check on a few rows that a policy acts as promised at ``theta`` after the context, in which it becomes that.

    :param policy_function: the policy.
    :param act: the actions of all rows, shape ``(N, ...)``.
    :param theta: the parameters that are written to it inside the context, shape ``(P,)``.
    :raises ValueError: when its outputs are others, naming whether its memory or the critic's fit is the cause.
    """
    passes, at_theta = spaced_rows(policy_function, _FEW), partial(policy_function, theta)
    before, promised = policy_function.parameters.read(), log_probs(at_theta, passes, act)
    yield
    if not differ(promised, log_probs(policy_function.acting, passes, act), policy_function, passes[0], act):
        return
    written = policy_function.parameters.read()
    policy_function.parameters.write(
        before
    )  # what is promised at theta must not depend on it; the caller undoes the update
    if differ(promised, log_probs(at_theta, passes, act), policy_function, passes[0], act):
        raise ValueError(
            "critic's fit must not move the policy, got other outputs of the policy after it: the policy uses layers "
            "of the critic that are not among its own modules; assign them as attributes of the policy's actor"
        )
    if not torch.equal(written, theta):
        raise ValueError(
            "critic's fit must not move the policy, got other parameters of the policy after it: move those of "
            "task.own alone"
        )
    raise ValueError(
        "policy must use a trained parameter's memory through that parameter alone, got other outputs once the new "
        "values were written: a buffer, a frozen parameter or an array shares its memory; make it a copy"
    )


def check_actions_possible(policy_function: RowFunction, act: Tensor) -> None:
    """Check that no discrete action has probability 0 under the policy.

    :raises ValueError: naming the first such action and its row.
    """
    theta = policy_function.parameters.read()
    with torch.no_grad():
        for rows in policy_function.micro_batches:
            distribution = policy_function(theta, rows)
            if is_discrete(distribution):
                check_possible(distribution, act[rows], rows.start)
