"""What a policy was made with, so that a checkpoint can say how to make it again, without a pickle and without code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec

import gymnasium as gym
import numpy as np
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import nn

from trpo_ts.envs.space_records import space_of, space_record
from trpo_ts.envs.task_description import TaskDescription
from trpo_ts.networks.trunk import Trunk, make_trunk
from trpo_ts.uncompiled import original

__all__ = ["PolicyDescription", "described", "description_of", "make_described", "set_task", "uncompiled_name"]

P = ParamSpec("P")

_FACTORIES: dict[str, Callable[..., ProbabilisticActorPolicy]] = {}
"""The decorated functions by name."""


@dataclass(frozen=True)
class PolicyDescription:
    """The call that made a policy.

    :param factory: the name of the function.
    :param arguments: all its arguments by name.
    :param structure: the modules of the policy when it was made.
    :param task: the task that it is trained for, where that is known.
    """

    factory: str
    arguments: Mapping[str, Any]
    structure: tuple[str, ...]
    task: TaskDescription | None = None

    def record(self, policy: ProbabilisticActorPolicy) -> dict[str, Any]:
        """Return the call in plain containers and arrays.

        :param policy: the policy as it is now.
        :raises ValueError: where the call would make another policy, or has an argument that cannot be written down.
        """
        if _structure(policy) != self.structure:
            raise ValueError(f"its modules are others than those that {self.factory} made")
        return {
            "factory": self.factory,
            "arguments": {name: _written(name, value) for name, value in self.arguments.items()},
        }


def described(make: Callable[P, ProbabilisticActorPolicy]) -> Callable[P, ProbabilisticActorPolicy]:
    """Decorate a function that makes policies: they get a :class:`PolicyDescription` as ``policy.description``."""
    parameters = signature(make)

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> ProbabilisticActorPolicy:
        policy = make(*args, **kwargs)
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()  # later versions may have others
        own = dict(bound.arguments)
        own.pop("options", None)
        # A factory that calls another one hands its options on: they are among the arguments of the other.
        inner = description_of(policy)
        arguments = own if inner is None else {**inner.arguments, **own}
        vars(policy)["description"] = PolicyDescription(make.__name__, arguments, _structure(policy))
        return policy

    _FACTORIES[make.__name__] = made
    return made


def description_of(policy: nn.Module) -> PolicyDescription | None:
    """Return the description of a policy; None for one that no decorated function made."""
    description = vars(policy).get("description")
    return description if isinstance(description, PolicyDescription) else None


def set_task(policy: nn.Module, task: TaskDescription) -> None:
    """Note in the description of a policy, where it has one, which task it is trained for."""
    description = description_of(policy)
    if description is not None:
        vars(policy)["description"] = replace(description, task=task)


def make_described(record: Mapping[str, Any]) -> ProbabilisticActorPolicy:
    """Return a new policy, made by the call that :meth:`PolicyDescription.record` wrote down.

    :raises Exception: of any kind, for a record that nothing wrote.
    """
    arguments = {name: _read(name, value) for name, value in record["arguments"].items()}
    return _FACTORIES[record["factory"]](**arguments)


def uncompiled_name(name: str) -> str:
    """Return the name that a parameter or module has where nothing is wrapped by ``torch.compile``."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _structure(policy: ProbabilisticActorPolicy) -> tuple[str, ...]:
    """Return names of the classes that a policy is made of; one that is compiled counts as it was written."""
    dist_fn: Any = policy.dist_fn
    kinds = [f"dist_fn: {getattr(dist_fn, '__qualname__', type(dist_fn).__qualname__)}"]
    for name, module in policy.named_modules():
        if original(module) is module:
            kinds.append(f"{uncompiled_name(name)}: {type(module).__qualname__}")
    return tuple(kinds)


def _written(name: str, value: Any) -> Any:
    if isinstance(value, gym.Space):
        return space_record(value)
    if name == "activation":
        return _activation_name(value)
    if name == "trunk" and value is not None:
        made_with = value.made_with if type(value) is Trunk else None
        if made_with is None:
            raise ValueError("its trunk was not made by make_trunk")
        space, sizes, activation, layer_norm = made_with
        return [space_record(space), list(sizes), _activation_name(activation), layer_norm]
    if name.endswith("_sizes"):
        return [int(width) for width in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"its argument {name} is of the class {type(value).__name__}")
    return value


def _activation_name(activation: type[nn.Module]) -> str:
    name = activation.__name__
    if getattr(nn, name, None) is not activation:
        raise ValueError(f"its activation {name} is none of torch.nn")
    return name


def _activation(name: str) -> type[nn.Module]:
    kind = getattr(nn, name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"torch.nn.{name} is no activation")
    return kind


def _read(name: str, value: Any) -> Any:
    if name.endswith("_space"):
        return space_of(value)
    if name == "activation":
        return _activation(value)
    if name == "trunk" and value is not None:
        space, sizes, activation, layer_norm = value
        return make_trunk(space_of(space), sizes, _activation(activation), layer_norm=layer_norm)
    return value
