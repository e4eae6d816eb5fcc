"""Whether policy and critic are separate in memory, so that the critic's fit cannot move the policy."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["check_separate"]


def check_separate(policys: Iterable[Tensor], critic: nn.Module, fitted: Iterable[Tensor]) -> None:
    """Check that no parameter that the critic's fit moves shares memory with the policy.

    :param policys: the policy's parameters and buffers.
    :param critic: the critic, for the names of its parameters.
    :param fitted: the parameters that the critic's fit moves.
    :raises ValueError: naming the parameter and the fix.
    """
    used = set(map(_memory, policys)) - {0}
    for parameter in fitted:
        if _memory(parameter) in used:
            name = next((name for name, p in critic.named_parameters() if p is parameter), "a parameter")
            raise ValueError(
                f"critic must have parameters of its own, got {name} in the same memory as the policy's, which its fit "
                "would move: share the module itself between policy and critic, before the algorithm is built"
            )


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.numel() else 0
