"""What a policy's distribution must be, and what it must say of the rollout, for the update to make sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, kl_divergence
from torch.distributions.constraints import Constraint

__all__ = ["check_divergence", "check_joint", "check_possible", "check_terms", "is_discrete"]


def check_divergence(distribution: Distribution, moved: Distribution) -> None:
    """Check that the distribution has a KL divergence from others of its kind, one for each row.

    :param distribution: the policy's, one for each row.
    :param moved: the same at other parameters.
    :raises ValueError: when torch knows none, or one of another shape, as a mean over the rows is.
    """
    try:
        kl = kl_divergence(distribution, moved)
    except NotImplementedError as error:
        while isinstance(distribution, Independent):
            distribution = distribution.base_dist
        name = type(distribution).__name__
        fix = f"register one with torch.distributions.kl.register_kl({name}, {name})"
        if isinstance(distribution, TransformedDistribution):
            fix = f"its transforms must not depend on the network, and be made once, outside of dist_fn; or {fix}"
        raise ValueError(
            f"dist_fn must return a distribution with a KL divergence, got a {name} without; {fix}"
        ) from error
    _check_shape("kl_divergence", kl, distribution)


def check_terms(distribution: Distribution, act: Tensor) -> None:
    """Check that the distribution has one log-probability for each row, and one entropy if it has any.

    :param distribution: the policy's, one for each row.
    :param act: the actions of these rows, shape ``(n, ...)``.
    :raises ValueError: naming what has another shape. Terms ``(n, 1)`` times advantages ``(n,)`` would be ``(n, n)``.
    """
    _check_shape("log_prob", distribution.log_prob(act), distribution)
    try:
        entropy = distribution.entropy()
    except NotImplementedError:  # it need not have one
        return
    _check_shape("entropy", entropy, distribution)


def _check_shape(name: str, terms: Tensor, distribution: Distribution) -> None:
    n = distribution.batch_shape[0]
    if tuple(terms.shape) != (n,):
        raise ValueError(
            f"dist_fn must return a distribution whose {name} has one value for each row, shape ({n},) for {n} rows, "
            f"got shape {tuple(terms.shape)} from a {type(distribution).__name__}; nothing was updated: sum over the "
            "dimensions of an action, and take no mean over rows"
        )


def check_joint(distribution: Distribution, n: int, action_shape: Sequence[int]) -> None:
    """Check that there is one distribution per row, over whole actions.

    :param distribution: the policy's distribution for ``n`` observations.
    :param n: the number of observations.
    :param action_shape: the shape of one action in the rollout.
    :raises ValueError: when the distribution would give one log-probability per action component, as a plain
        ``Normal`` does (KL divergences and ratios would be averaged over the components, and the real KL would
        exceed ``max_kl``), or when it describes actions of another shape.
    """
    batch_shape, event_shape = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    name = type(distribution).__name__
    if len(batch_shape) > 1 and batch_shape[0] == n:
        raise ValueError(
            f"dist_fn must return one joint distribution per observation, got a {name} with batch shape "
            f"{batch_shape} for {n} observations; wrap it: "
            f"torch.distributions.Independent(distribution, {len(batch_shape) - 1})"
        )
    if batch_shape != (n,):
        raise ValueError(
            f"dist_fn must return one distribution per observation, got a {name} with batch shape "
            f"{batch_shape} for {n} observations"
        )
    if event_shape != tuple(action_shape):
        raise ValueError(
            f"policy and actions must match: the policy's {name} describes actions of shape {event_shape}, "
            f"the rollout holds actions of shape {tuple(action_shape)}; build the policy for the "
            "environment's action space"
        )


def check_possible(distribution: Distribution, act: Tensor, first_row: int = 0) -> None:
    """Check that no discrete action of the rollout has probability 0 under the policy that took it.

    A continuous one may: at the end of its range a density can vanish, or overflow, by rounding.

    :param distribution: the policy's distribution for the observations, a discrete one.
    :param act: the actions, shape ``(N, ...)``.
    :param first_row: the first action's row in the rollout.
    :raises ValueError: naming the first such action and its row.
    """
    # Masks are often written with -1e8 or the like for minus infinity. No sampler draws what is this improbable.
    impossible = distribution.log_prob(act) < _LEAST_LOG_PROB * max(1, act[0].numel())
    if bool(impossible.any()):
        row = int(impossible.int().argmax())
        raise ValueError(
            f"batch.act must be possible for the policy, got {act[row].tolist()!r} with probability 0 in row "
            f"{first_row + row}; nothing was updated: the action must be valid under the mask in its own observation"
        )


_LEAST_LOG_PROB = -200.0
"""For each component of an action; float32's smallest positive number has the logarithm -104."""


def is_discrete(distribution: Distribution) -> bool:
    """Whether the distribution says that its actions are discrete."""
    try:
        return bool(cast(Constraint, distribution.support).is_discrete)
    except NotImplementedError:  # a distribution need not say
        return False
