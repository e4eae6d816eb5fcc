"""Networks that normalise by the statistics of the batch that they are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["named_batch_statistics", "takes_batch_statistics"]


def takes_batch_statistics(network: nn.Module) -> bool:
    """Whether a network's output for a row depends on the other rows of its batch, by batch norm in training mode."""
    return any(isinstance(module, _BatchNorm) and module.training for module in network.modules())


@contextmanager
def named_batch_statistics(name: str, network: nn.Module, rows: int) -> Iterator[None]:
    """Say of torch's error that a single row has no statistics, and what to do.

    :param name: what the network is to a user, "critic".
    :param network: the network that is evaluated inside the context.
    :param rows: how many observations it is given.
    :raises ValueError: in place of torch's error, which stays its cause.
    """
    try:
        yield
    except ValueError as error:
        if rows > 1 or not takes_batch_statistics(network):
            raise
        raise ValueError(
            f"{name} must be given at least 2 observations at a time while it is fitted, got 1: batch norm takes the "
            "mean and variance of a batch; set a larger batch_size, or take LayerNorm"
        ) from error
