"""Layers and parameters that an update cannot use, found before anything is built on them."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

__all__ = ["check_layers", "check_parameters"]


def check_layers(name: str, network: nn.Module) -> None:
    """Check that no embedding changes its weights while it is evaluated, or has sparse gradients.

    :param name: what the network is to a user, "policy" or "critic".
    :param network: the network.
    :raises ValueError: naming the layer, its setting and the fix.
    """
    for path, module in network.named_modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            continue
        layer = f"{name} must not hold {type(module).__name__} layers"
        if module.max_norm is not None:
            raise ValueError(
                f"{layer} with max_norm, got {path} with max_norm={module.max_norm}: its weights would change with "
                "each evaluation, outside of the trust region; leave max_norm out, and normalise what the layer returns"
            )
        if module.sparse:
            raise ValueError(f"{layer} with sparse=True, got {path}: an update needs dense gradients; leave sparse out")


def check_parameters(name: str, network: nn.Module) -> None:
    """Check that no parameter was made in inference mode, in which nothing can be learned.

    :param name: what the network is to a user, "policy" or "critic".
    :param network: the network.
    :raises ValueError: naming the parameter and the fix.
    """
    for path, parameter in network.named_parameters():
        if not is_lazy(parameter) and parameter.is_inference():
            raise ValueError(
                f"{name} must have parameters that can be trained, got {path}, which was made in "
                "torch.inference_mode(); build or copy the network outside of it"
            )
