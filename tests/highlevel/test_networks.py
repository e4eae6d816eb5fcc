"""Networks of the high-level API."""

from __future__ import annotations

import pickle

import pytest
import torch
from experiments import environments, make_builder
from torch import nn

from trpo_ts.highlevel import ActorFactoryMakePolicy, CriticFactoryMakeCritic


@pytest.mark.parametrize("factory", [ActorFactoryMakePolicy, CriticFactoryMakeCritic])
def test_unknown_option_of_the_networks_is_refused(factory):
    with pytest.raises(TypeError, match="hiden_sizes"):
        factory(hiden_sizes=(64,))


def test_critic_of_actions_is_refused():
    envs = environments().create_envs(1, 1)
    with pytest.raises(ValueError, match="use_action"):
        CriticFactoryMakeCritic().create_module(envs, "cpu", use_action=True)


def linear_sizes(module):
    return [m.out_features for m in module.modules() if isinstance(m, nn.Linear)]


def test_default_networks_are_make_policys_and_make_critics():
    algorithm = make_builder().build().create_experiment_world().algorithm
    assert linear_sizes(algorithm.policy) == [64, 64, 1]
    assert linear_sizes(algorithm.critic) == [64, 64, 1]
    assert torch.allclose(algorithm.policy.actor.sigma.log_std.exp(), torch.tensor(0.6))
    builder = make_builder().with_actor_factory(ActorFactoryMakePolicy(hidden_sizes=(5,), initial_std=0.3))
    builder.with_critic_factory(CriticFactoryMakeCritic(hidden_sizes=(7,)))
    algorithm = builder.build().create_experiment_world().algorithm
    assert linear_sizes(algorithm.policy) == [5, 1]
    assert linear_sizes(algorithm.critic) == [7, 1]
    assert torch.allclose(algorithm.policy.actor.sigma.log_std.exp(), torch.tensor(0.3))


@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_tianshous_default_networks_work_too(task):
    builder = make_builder(env_factory=environments(task))
    builder.with_actor_factory_default((8,), nn.Tanh, continuous_unbounded=True)
    builder.with_critic_factory_default((9,), nn.Tanh)
    result = builder.build().run()
    assert linear_sizes(result.world.algorithm.policy)[0] == 8
    assert linear_sizes(result.world.algorithm.critic)[0] == 9
    assert result.trainer_result.update_step == 2


def test_shared_network_survives_the_way_to_another_process():
    experiment = make_builder().with_critic_factory_use_actor().build()
    for case in (experiment, pickle.loads(pickle.dumps(experiment))):
        algorithm = case.create_experiment_world().algorithm
        shared = set(algorithm.policy.parameters()) & set(algorithm.critic.parameters())
        assert len(shared) == 4
        assert case.run(raise_error_on_dirname_collision=False).trainer_result.update_step == 2
