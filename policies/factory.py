"""One call that builds a sound policy for an environment's spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import nn

from trpo_ts.choices import BoxDistribution, StdKind
from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.networks.trunk import trunk_or
from trpo_ts.policies.box import BoxSettings, make_box_policy
from trpo_ts.policies.categorical import make_categorical_policy
from trpo_ts.policies.flat_action_policy import make_flat_action_policy
from trpo_ts.policies.masked import make_unmasked_trunk
from trpo_ts.policies.policy_description import described
from trpo_ts.validation.argument_names import NETWORK_NAMES, explained

__all__ = ["make_policy"]


@explained(NETWORK_NAMES)
@described
def make_policy(
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    *,
    hidden_sizes: Sequence[int] = (64, 64),
    activation: type[nn.Module] = nn.Tanh,
    layer_norm: bool = False,
    trunk: ModuleWithVectorOutput | None = None,
    distribution: BoxDistribution = "gaussian",
    std: StdKind = "free",
    initial_std: float = 0.6,
    min_std: float = 0.0,
    noise_steps: int = 4,
    deterministic_eval: bool = True,
    mask_key: str | None = None,
) -> ProbabilisticActorPolicy:
    """Return a policy for the spaces: ``distribution`` for a Box of actions, categorical ones for choices.

    For a choice of several components, and for mixed actions, all of them are independent given the observation.
    Weights are orthogonal, and the output layer starts small, so that all states begin at nearly the same
    distribution. ``docs/spaces.md`` says more on each kind of observation, network and distribution.

    >>> import gymnasium
    >>> env = gymnasium.make("Pendulum-v1")
    >>> policy = make_policy(env.observation_space, env.action_space)
    >>> sum(p.numel() for p in policy.parameters())
    4482

    :param observation_space: the environment's: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
    :param action_space: the environment's: a floating-point Box of any shape and bounds, Discrete, MultiDiscrete,
        MultiBinary, or what :class:`trpo_ts.envs.FlattenAction` makes of a Dict or Tuple of these.
    :param hidden_sizes: the widths of the hidden layers; typically 64-256 each.
    :param activation: the activation after each hidden layer; smooth ones suit second-order steps.
    :param layer_norm: whether hidden layers are normalised before their activation.
    :param trunk: a network from observations to features that takes the place of the hidden layers, such as one that
        the critic shares; see :func:`trpo_ts.networks.make_trunk`. The three parameters above are then not read.
    :param distribution: of a Box of actions. ``"gaussian"``: what lies beyond the bounds is cut off.
        ``"squashed_gaussian"``: a Gaussian followed by tanh. ``"beta"``: a density on the range of actions itself.
        ``"gsde"``: a Gaussian with smooth, state-dependent exploration (arXiv:2005.05719). The second and the third
        need bounds on both sides.
    :param std: the standard deviation of both Gaussians: ``"free"``, a parameter per component, or
        ``"state_dependent"``, a layer on the features.
    :param initial_std: the standard deviation at the start, > 0, in units of the scaled action range [-1, 1]; for the
        squashed Gaussian before tanh; for Beta at most 0.5. Typically 0.3-1.
    :param min_std: the standard deviation of both Gaussians never falls below it, in the same units, in [0,
        ``initial_std``); 0 for no bound. A policy whose standard deviation has vanished can hardly move its mean within
        ``max_kl``: on InvertedDoublePendulum it then keeps failing from some initial states. Typically 0-0.2.
    :param noise_steps: for how many steps ``"gsde"`` holds its noise, >= 1; typically 4-64.
    :param deterministic_eval: whether the policy acts by its mode outside of training.
    :param mask_key: the key of a Dict observation that holds the mask of the valid categories, 0 for invalid, one
        number for each category of each component; they are never taken. None takes all of them.
    :raises ValueError: for spaces that are not supported, with what to do about it, and for values out of range.
    """
    choices = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if not isinstance(action_space, spaces.Box | choices):
        raise ValueError(
            f"action_space must be a Box, Discrete, MultiDiscrete or MultiBinary, got {action_space}; "
            "for a Dict or Tuple of these wrap the environment with trpo_ts.envs.FlattenAction, for others build a "
            "ProbabilisticActorPolicy with a joint distribution yourself"
        )
    settings = BoxSettings(distribution, std, initial_std, min_std, noise_steps)
    settings.check(action_space)
    if mask_key is not None and trunk is None:
        trunk = make_unmasked_trunk(observation_space, mask_key, hidden_sizes, activation, layer_norm)
    trunk = trunk_or(trunk, observation_space, hidden_sizes, activation, layer_norm)
    if isinstance(action_space, FlatAction):
        return make_flat_action_policy(
            trunk,
            observation_space,
            action_space,
            mask_key=mask_key,
            initial_std=initial_std,
            deterministic_eval=deterministic_eval,
        )
    if isinstance(action_space, choices):
        return make_categorical_policy(
            trunk, observation_space, action_space, mask_key=mask_key, deterministic_eval=deterministic_eval
        )
    if mask_key is not None:
        raise ValueError(f"mask_key must be None for a Box of actions, got {mask_key!r}; a mask needs categories")
    return make_box_policy(
        trunk, observation_space, action_space, settings=settings, deterministic_eval=deterministic_eval
    )
