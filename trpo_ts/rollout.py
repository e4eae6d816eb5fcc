"""From a rollout in Tianshou's batch to tensors: checks, conversion, values, action distributions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Batch
from torch import Tensor, nn
from torch.backends import cuda, cudnn
from torch.distributions import Distribution

from trpo_ts.advantages import continues
from trpo_ts.natural_gradient.rows import Rows, row_slices
from trpo_ts.sequences import Sequences

__all__ = [
    "ActionDistribution",
    "as_tensors",
    "check_finite",
    "evaluation_mode",
    "policy_inputs",
    "restored_modes",
    "rollout_values",
    "rows_of",
    "state_values",
    "twice_differentiable",
    "without_validation",
]


def check_finite(batch: Any) -> None:
    """Check that observations, actions and rewards of a rollout are finite.

    :raises ValueError: naming the field, how many rows are affected and the first of them.
    """
    for field in ("obs", "obs_next", "act", "rew"):
        for path, array in _leaves(batch.get(field), field):
            if array.dtype.kind != "f":
                continue
            entries = np.isfinite(array)
            if not entries.all():
                finite = entries.reshape(len(array), -1).all(axis=1)
                first = int(np.argmin(finite))
                raise ValueError(
                    f"batch.{path} must be finite, got {array[first].tolist()!r} in row {first} "
                    f"({int((~finite).sum())} of {len(finite)} rows); nothing was updated: "
                    "look for the environment or wrapper that produces it"
                )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Batch):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, Tensor):
        yield path, value.detach().cpu().numpy()


def as_tensors(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return arrays, or nested batches of arrays, as tensors; floating ones in the given dtype.

    Networks convert NumPy input in every forward pass; converted once here, it costs nothing there. Integers
    (images, categories) keep their dtype. What is no numeric array is returned as it is.
    """
    if isinstance(value, Batch):
        return Batch({key: as_tensors(item, device, dtype) for key, item in value.items()})
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return value


def rows_of(info: Batch, rows: slice | Tensor) -> Batch:
    """Return rows of the environments' infos, which are NumPy arrays, and empty where an environment gives none."""
    if len(info.get_keys()) == 0:
        return info
    return info[rows.cpu().numpy() if isinstance(rows, Tensor) else rows]


def policy_inputs(batch: Any, rows: Rows) -> tuple[Any, Batch, Sequences | None]:
    """Return the arguments of :class:`ActionDistribution` for rows of the rollout."""
    sequences = None if batch.sequences is None else batch.sequences[rows]
    return batch.obs[rows], rows_of(batch.info, rows), sequences


def state_values(critic: nn.Module, obs: Any, count: int, max_batchsize: int) -> Tensor:
    """Return the critic's values V(s) of ``count`` observations, shape ``(count,)``, without a graph.

    :raises ValueError: when the critic returns anything but one value per observation.
    """
    parts = []
    with torch.no_grad(), evaluation_mode(critic):
        for rows in row_slices(count, max_batchsize):
            value = critic(obs[rows])
            length = rows.stop - rows.start
            if not isinstance(value, Tensor) or value.numel() != length:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"critic must return one value per observation, got {got} for {length} observations; "
                    "its output must have shape (N, 1) or (N,)"
                )
            parts.append(value.detach().flatten())
    return torch.cat(parts)


def rollout_values(critic: nn.Module, obs: Any, obs_next: Any, max_batchsize: int) -> tuple[Tensor, Tensor]:
    """Return V(s) and V(s') of each row, both of shape ``(N,)``, from observations and next observations.

    :raises ValueError: see :func:`state_values`.
    """
    reused = continues(obs, obs_next)
    others = np.flatnonzero(~reused)
    with evaluation_mode(critic):
        values = state_values(critic, obs, len(reused), max_batchsize)
        next_values = values.roll(-1)
        next_values[others] = state_values(critic, obs_next[others], len(others), max_batchsize)
    return values, next_values


class ActionDistribution(nn.Module):
    r"""The policy as a map from observations to action distributions, :math:`s \mapsto \pi(\cdot|s)`.

    Tianshou's ``policy(batch)`` also draws an action; this does not, and leaves the random generators alone.
    """

    def __init__(self, policy: ProbabilisticActorPolicy) -> None:
        super().__init__()
        self.policy = policy
        self._samples = type(policy).forward is not ProbabilisticActorPolicy.forward

    def forward(self, obs: Any, info: Any, state: Any = None) -> Distribution:
        """Return the action distributions for ``obs``, with the rollout's ``info`` for policies that read it.

        A policy with a memory takes ``obs`` up from ``state``, the rows' :class:`trpo_ts.sequences.Sequences`.
        """
        if self._samples:  # a policy with its own forward pass decides there what its distribution is
            with torch.random.fork_rng():
                return cast(Distribution, self.policy(Batch(obs=obs, info=info), state).dist)
        dist_input, _ = self.policy.actor(obs, state=state, info=info)
        return self.policy.dist_fn(dist_input)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and every submodule back into its own mode afterwards."""
    with restored_modes(module) as training:
        # Setting a mode is slow, and within an update the policy mostly is in evaluation mode already.
        if training:
            module.eval()
        yield


@contextmanager
def restored_modes(module: nn.Module) -> Iterator[bool]:
    """Give every submodule its own training mode back afterwards, and say whether any is in training mode."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    try:
        yield any(training for _, training in modes)
    finally:
        for submodule, training in modes:
            if submodule.training != training:
                submodule.training = training


_ATTENTION = (
    (cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
    (cuda.flash_sdp_enabled, cuda.enable_flash_sdp, False),
    (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, False),
    (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False),
)
"""Torch's switches of attention's kernels, on all devices, and how they must stand for second derivatives.

``torch.nn.attention.sdpa_kernel`` turns the same ones, in a hundred times the time.
"""


@contextmanager
def twice_differentiable(*networks: nn.Module) -> Iterator[None]:
    """Choose the kernels that can be differentiated twice, for attention and for recurrent layers.

    The fused ones have no second derivative, which exact products with the Fisher matrix take.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for network in networks for module in network.modules())
    before = [is_enabled() for is_enabled, _, _ in _ATTENTION]
    try:
        for _, enable, wanted in _ATTENTION:
            enable(wanted)
        with cudnn.flags(enabled=False) if recurrent and cudnn.enabled else nullcontext():
            yield
    finally:
        for (_, enable, _), enabled in zip(_ATTENTION, before, strict=True):
            enable(enabled)


@contextmanager
def without_validation() -> Iterator[None]:
    """Switch off the argument checks of torch's distributions.

    They take time in every pass, and raise where an update has to turn down a candidate quietly.
    """
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
