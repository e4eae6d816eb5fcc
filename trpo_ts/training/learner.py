"""Policy, critic and TRPO around them, as settings describe them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import gymnasium as gym
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from torch import nn

from trpo_ts.choices import Activation
from trpo_ts.critics import make_critic, make_recurrent_critic
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.presets import Settings
from trpo_ts.presets.job_settings import SCHEDULED
from trpo_ts.training.components import critic_fit_of, number_or_schedule_of, preconditioner_of
from trpo_ts.training.learning_rates import ScheduledRate
from trpo_ts.trpo import TRPO
from trpo_ts.validation.parameter_values import check_real

__all__ = ["make_learner"]

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def make_learner(settings: Settings, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> TRPO:
    """Return TRPO with new networks for the spaces.

    :raises ValueError: for a setting outside its range, or that does not suit the spaces; it names the setting.
    """
    policy, critic = _networks(settings, observation_space, action_space)
    own = {name: getattr(settings, name) for name in settings.names() if name in signature(TRPO).parameters}
    own["critic_fit"] = critic_fit_of(settings.critic_fit)
    own["preconditioner"] = preconditioner_of(settings.preconditioner)
    own |= {name: number_or_schedule_of(name, own[name]) for name in SCHEDULED if name in own}
    return TRPO(policy=policy, critic=critic, optim=_critic_optimizer(settings), **own)


def _critic_optimizer(settings: Settings) -> AdamOptimizerFactory:
    """Return the factory of the critic's Adam; a schedule of its rate moves once per update."""
    rate = number_or_schedule_of("lr", settings.lr)
    if not callable(rate):
        return AdamOptimizerFactory(lr=check_real("lr", rate, 0.0, low_open=True))
    schedule = ScheduledRate(rate, settings.whole_steps // settings.rollout)
    return AdamOptimizerFactory(lr=rate(0.0)).with_lr_scheduler_factory(schedule)


def _networks(
    settings: Settings, observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> tuple[ProbabilisticActorPolicy, nn.Module]:
    actions = {
        name: getattr(settings, name)
        for name in ("distribution", "std", "initial_std", "min_std", "noise_steps", "mask_key")
    }
    layers: dict[str, Any] = {
        "hidden_sizes": settings.hidden_sizes,
        "activation": _ACTIVATIONS[settings.activation],
    }
    policy_of: Callable[..., ProbabilisticActorPolicy] = make_policy
    critic_of: Callable[..., nn.Module] = make_critic
    if settings.memory == "none":
        layers["layer_norm"] = settings.layer_norm
    elif settings.layer_norm:
        raise ValueError(f"layer_norm must be False with memory={settings.memory!r}, got True; take one of the two")
    else:
        policy_of, critic_of = make_recurrent_policy, make_recurrent_critic
        size = settings.memory_size
        layers |= {"cell": settings.memory, "hidden_size": size, "encoder_sizes": (size,)}
    policy = policy_of(observation_space, action_space, **layers, **actions)
    return policy, critic_of(observation_space, **layers)
