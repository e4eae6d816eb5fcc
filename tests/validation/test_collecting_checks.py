"""Distributions that Tianshou's collector cannot read: a warning where the learner is built."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import BOX, DISCRETE, OBSERVATIONS, make_actor_policy, make_trpo
from sequenced import RandomEpisodes
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from trpo_ts.envs import FlatAction
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.validation.collecting_checks import warn_of_collecting

KINDS = ("gaussian", "squashed_gaussian", "beta", "gsde")


def squashed(loc_scale: Any) -> Independent:
    return Independent(TransformedDistribution(Normal(*loc_scale), [TanhTransform()]), 1)


def policy_of(dist_fn: Any = squashed, observation_space: Any = OBSERVATIONS, **options: Any) -> Any:
    return ProbabilisticActorPolicy(
        actor=make_actor_policy().actor,
        dist_fn=dist_fn,
        action_space=BOX,
        observation_space=observation_space,
        action_scaling=False,
        action_bound_method=None,
        **options,
    )


def test_a_distribution_without_stddev_fails_in_the_collector_and_is_named_before() -> None:
    policy = policy_of()
    with pytest.warns(UserWarning, match=r"dist_fn returns a Independent without stddev, which Tianshou's Collector"):
        make_trpo(policy)
    envs = DummyVectorEnv([lambda: RandomEpisodes(0, discrete=False)])
    collector = Collector(policy, envs, VectorReplayBuffer(8, 1))
    collector.reset()
    with policy_within_training_step(policy), pytest.raises(NotImplementedError):
        collector.collect(n_step=4)


def test_one_without_mode_is_named_where_tests_act_by_it() -> None:
    with pytest.warns(UserWarning, match="without") as found:
        warn_of_collecting(policy_of(deterministic_eval=True))
    assert [("stddev" in str(w.message), "mode" in str(w.message).split(",")[0]) for w in found] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    "policy",
    [
        *(make_policy(OBSERVATIONS, BOX, distribution=kind) for kind in KINDS),
        make_policy(OBSERVATIONS, DISCRETE),
        make_policy(OBSERVATIONS, spaces.MultiDiscrete([2, 3])),
        make_policy(OBSERVATIONS, spaces.MultiBinary(2)),
        make_policy(OBSERVATIONS, FlatAction(spaces.Dict(a=BOX, b=DISCRETE))),
        make_policy(spaces.Dict(a=OBSERVATIONS, mask=spaces.MultiBinary(4)), DISCRETE, mask_key="mask"),
        make_policy(spaces.Discrete(3), DISCRETE),
        make_recurrent_policy(OBSERVATIONS, DISCRETE),
        policy_of(observation_space=None),
        policy_of(observation_space=spaces.Text(3)),
        policy_of(observation_space=spaces.Box(-1.0, 1.0, (9,))),
    ],
)
def test_nothing_is_said_of_those_that_work_or_cannot_be_known(policy: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_collecting(policy)


def test_looking_leaves_no_trace() -> None:
    policy = make_policy(OBSERVATIONS, BOX, distribution="gsde")
    policy.actor.train()
    space = policy.observation_space
    space.seed(1)
    expected, generator = space.np_random.bit_generator.state, torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    warn_of_collecting(policy)
    assert space.np_random.bit_generator.state == expected
    assert torch.equal(torch.get_rng_state(), generator)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert policy.actor.training


def test_hooks_are_not_called() -> None:
    calls: list[Any] = []
    for module in ("actor", "actor.body", "actor.body.layers.0"):
        policy = policy_of()
        policy.get_submodule(module).register_forward_hook(lambda *args: calls.append(args))
        warn_of_collecting(policy)
    assert not calls


def test_lazy_layers_stay_lazy() -> None:
    policy = policy_of()
    policy.actor.body.layers = nn.Sequential(nn.LazyLinear(2))
    warn_of_collecting(policy)
    assert isinstance(policy.actor.body.layers[0], nn.LazyLinear)
