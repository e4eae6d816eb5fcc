"""The networks of ``make_policy`` and ``make_critic`` as factories of Tianshou's high-level API."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy, TDistFnDiscrOrCont
from tianshou.highlevel.env import Environments
from tianshou.highlevel.module.actor import ActorFactory
from tianshou.highlevel.module.core import TDevice
from tianshou.highlevel.module.critic import CriticFactory
from torch import nn

from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy

__all__ = ["ActorFactoryMakePolicy", "CriticFactoryMakeCritic"]


class ActorFactoryMakePolicy(ActorFactory):
    """The actor of :func:`trpo_ts.policies.make_policy`, and with it the whole policy.

    :param options: keyword arguments of ``make_policy``, such as ``hidden_sizes=(64, 64)``. Whether the policy acts
        deterministically outside of training is a parameter of the algorithm here: ``deterministic_eval``.
    :raises TypeError: for an option that ``make_policy`` does not have.
    """

    def __init__(self, **options: Any) -> None:
        signature(make_policy).bind(None, None, deterministic_eval=False, **options)
        self.options = options

    def create_policy(
        self, envs: Environments, device: TDevice, deterministic_eval: bool = False
    ) -> ProbabilisticActorPolicy:
        """Return the policy for the environments' spaces, on the device."""
        spaces = envs.get_observation_space(), envs.get_action_space()
        return make_policy(*spaces, deterministic_eval=deterministic_eval, **self.options).to(device)

    def create_module(self, envs: Environments, device: TDevice) -> nn.Module:
        """Return the policy's network alone."""
        return self.create_policy(envs, device).actor

    def create_dist_fn(self, envs: Environments) -> TDistFnDiscrOrCont | None:
        """Return the function from the network's output to the action distribution."""
        with torch.random.fork_rng(devices=[]):  # the network that comes with it is thrown away
            return self.create_policy(envs, "cpu").dist_fn


class CriticFactoryMakeCritic(CriticFactory):
    """The critic of :func:`trpo_ts.critics.make_critic`.

    :param options: keyword arguments of ``make_critic``, such as ``hidden_sizes=(64, 64)``.
    :raises TypeError: for an option that ``make_critic`` does not have.
    """

    def __init__(self, **options: Any) -> None:
        signature(make_critic).bind(None, **options)
        self.options = options

    def create_module(
        self,
        envs: Environments,
        device: TDevice,
        use_action: bool,
        discrete_last_size_use_action_shape: bool = False,
    ) -> nn.Module:
        """Return the network from observations to values, on the device.

        :raises ValueError: when it shall take actions or return one value per action.
        """
        if use_action or discrete_last_size_use_action_shape:
            raise ValueError(
                "use_action and discrete_last_size_use_action_shape must be False for a critic of states, got "
                f"{use_action} and {discrete_last_size_use_action_shape}; take Tianshou's CriticFactoryDefault"
            )
        return make_critic(envs.get_observation_space(), **self.options).to(device)
