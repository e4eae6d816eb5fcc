"""The high-level API: parameters, networks, environments."""
# ruff: noqa: E402  without the extra there is nothing to test

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import fields
from inspect import Parameter, signature

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import Actor, Mlp

for extra in ("joblib", "rliable", "scipy"):
    pytest.importorskip(extra)

from experiments import BUILDERS, algorithms, environments, make_builder, training
from tianshou.highlevel.env import EnvFactoryRegistered as TianshouEnvFactory
from tianshou.highlevel.env import EnvMode, VectorEnvType
from tianshou.highlevel.module.actor import ActorFactory
from tianshou.highlevel.params import algorithm_params
from tianshou.highlevel.params.lr_scheduler import LRSchedulerFactoryFactoryLinear
from tianshou.highlevel.params.optim import OptimizerFactoryFactoryRMSprop
from torch import nn
from torch.distributions import Bernoulli, Independent

from trpo_ts import KFAC, NPG, TRPO
from trpo_ts.critics import GaussNewtonFit
from trpo_ts.highlevel import (
    ActorFactoryMakePolicy,
    CriticFactoryMakeCritic,
    EnvFactoryRegistered,
    TRPOParams,
)

# The extra


def test_missing_extra_is_named_and_the_package_works_without():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['joblib', 'rliable', 'scipy']))\n"
        "import trpo_ts, trpo_ts.policies, trpo_ts.critics, trpo_ts.diagnostics\n"
        "try:\n    import trpo_ts.highlevel\n"
        "except ImportError as error:\n    assert 'constraints.txt \".[highlevel]\"' in str(error), error\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Parameters


@algorithms
def test_every_constructor_parameter_is_a_field_with_the_same_default(algorithm):
    params = BUILDERS[algorithm][1]
    defaults = {f.name: f.default for f in fields(params)}
    for name, parameter in signature(algorithm).parameters.items():
        if name in ("policy", "critic", "optim"):
            continue
        assert parameter.default is not Parameter.empty
        assert defaults[name] == parameter.default, name
        assert type(defaults[name]) is type(parameter.default), name


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # no step of the optimiser is taken
def test_every_value_reaches_policy_optimiser_and_algorithm():
    config = training()
    values = {
        "max_kl": 0.02,
        "backtrack_coeff": 0.7,
        "max_backtracks": 7,
        "full_budget": True,
        "optim_critic_iters": 3,
        "trust_region_size": 0.4,
        "advantage_normalization": False,
        "gae_lambda": 0.9,
        "max_batchsize": 100,
        "gamma": 0.9,
        "return_scaling": True,
        "cg_iters": 5,
        "cg_damping": 0.2,
        "cg_tolerance": 0.1,
        "preconditioner": KFAC(samples=100),
        "fisher_subsampling": 0.5,
        "ent_coef": 0.01,
        "critic_fit": GaussNewtonFit(steps=2),
        "micro_batch_size": 50,
    }
    assert values.keys() == signature(TRPO).parameters.keys() - {"policy", "critic", "optim"}
    params = TRPOParams(
        lr=0.02,
        lr_scheduler=LRSchedulerFactoryFactoryLinear(config),
        optim=OptimizerFactoryFactoryRMSprop(),
        deterministic_eval=True,
        action_bound_method="tanh",
        **values,
    )
    world = make_builder(params=params).build().create_experiment_world()
    for name, value in values.items():
        assert getattr(world.algorithm, name) == value, name
    optimizer = world.algorithm.optim._optim
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert len(world.algorithm.lr_schedulers) == 1
    assert world.algorithm.policy.deterministic_eval
    assert world.algorithm.policy.action_bound_method == "tanh"
    assert world.trainer.run().train_step == 800


BAD_VALUES = {
    "max_kl": 0.0,
    "backtrack_coeff": 1.0,
    "max_backtracks": 0,
    "full_budget": 2,
    "optim_critic_iters": -1,
    "trust_region_size": 0.0,
    "advantage_normalization": "yes",
    "gae_lambda": 1.1,
    "max_batchsize": 0,
    "gamma": math.nan,
    "return_scaling": "no",
    "cg_iters": 0,
    "cg_damping": -0.1,
    "cg_tolerance": 1.0,
    "preconditioner": "kfac",
    "fisher_subsampling": 0.0,
    "ent_coef": -1.0,
    "critic_fit": GaussNewtonFit,
    "micro_batch_size": 0,
    "lr": -1e-3,
    "lr_scheduler": "linear",
    "optim": torch.optim.Adam,
    "deterministic_eval": "yes",
    "action_scaling": "yes",
    "action_bound_method": "sigmoid",
}


def test_every_field_has_a_bad_value_below():
    assert BAD_VALUES.keys() == {f.name for f in fields(TRPOParams)}


@pytest.mark.parametrize(
    ("algorithm", "name"), [(a, f.name) for a, (_, params) in BUILDERS.items() for f in fields(params)]
)
def test_bad_value_is_an_error_at_build_time_that_names_it(algorithm, name):
    kind = BUILDERS[algorithm][1]
    builder = make_builder(algorithm, kind(**{name: BAD_VALUES[name]}))
    with pytest.raises(ValueError, match=f"^{name} must be"):
        builder.build()


def test_parameters_of_another_algorithm_are_refused():
    with pytest.raises(ValueError, match=r"params must be NPGParams, got TRPOParams with .*max_kl"):
        make_builder(NPG, TRPOParams()).build()
    with pytest.raises(ValueError, match=r"params must be a NPGParams, got A2CParams; for example TRPOParams\(\)"):
        make_builder(TRPO, algorithm_params.A2CParams()).build()


def test_tianshous_own_parameters_are_taken():
    params = algorithm_params.TRPOParams(max_kl=0.03, return_scaling=True)
    algorithm = make_builder(params=params).build().create_experiment_world().algorithm
    assert (algorithm.max_kl, algorithm.return_scaling, algorithm.cg_tolerance) == (0.03, True, 0.9)


def test_build_draws_no_random_number():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make_builder().build()
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002


# Networks


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


class Plain(gym.Env):
    """One-step episodes that reward some action, in any spaces."""

    def __init__(self, action_space, render_mode=None):
        self.observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = action_space
        self.seen = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        assert np.isfinite(action).all()
        self.seen.append(action)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(np.sum(action)), True, False, {}


gym.register("Plain-v0", Plain)


@pytest.mark.parametrize("given", [True, False])
def test_unbounded_actions_are_passed_on_as_they_are(given):
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    builder = make_builder(env_factory=environments("Plain-v0", action_space=space, disable_env_checker=True))
    if given:
        builder.with_actor_factory_default((8,), continuous_unbounded=True)
    result = builder.build().run()
    actions = np.array([a for seen in result.world.envs.training_envs.get_env_attr("seen") for a in seen])
    assert np.abs(actions).max() > 1.0


class BitsActor(ActorFactory):
    """A policy for binary vectors, for which Tianshou has no class of environments."""

    def create_module(self, envs, device):
        return Actor(Mlp((3, 8, envs.get_action_shape()[0])), None).to(device)

    def create_dist_fn(self, envs):
        return bits


def bits(logits):
    return Independent(Bernoulli(logits=logits), 1)


def test_spaces_without_a_class_of_tianshous_work():
    env_factory = environments("Plain-v0", action_space=spaces.MultiBinary(4), disable_env_checker=True)
    result = make_builder(env_factory=env_factory, epochs=5).with_actor_factory(BitsActor()).build().run()
    assert result.trainer_result.best_reward > 2.5  # by chance it is 2


def test_normalised_observations_must_be_arrays(monkeypatch):
    monkeypatch.setattr(Plain, "step", None)
    gym.register("Dict-v0", lambda render_mode=None: DictEnv())
    with pytest.raises(ValueError, match="obs_norm must be False for the observation space Dict"):
        environments("Dict-v0", obs_norm=True, disable_env_checker=True).create_envs(1, 1)


class DictEnv(gym.Env):
    observation_space = spaces.Dict({"a": spaces.Discrete(2)})
    action_space = spaces.Discrete(2)


@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_environments_are_seeded_as_tianshous(task):
    make = {"task": task, "venv_type": VectorEnvType.DUMMY, "render_mode_watch": None}
    ours, theirs = (
        factory(**make).create_envs(2, 3, create_watch_env=True, seed=5)
        for factory in (EnvFactoryRegistered, TianshouEnvFactory)
    )
    assert type(ours) is type(theirs)
    for name in ("training_envs", "test_envs", "watch_env"):
        assert np.array_equal(getattr(ours, name).reset()[0], getattr(theirs, name).reset()[0])


def test_only_training_environments_gather_statistics():
    envs = environments(obs_norm=True).create_envs(2, 2, create_watch_env=True, seed=0)
    envs.test_envs.reset()
    envs.watch_env.reset()
    assert envs.training_envs.get_obs_rms().count == 0
    envs.training_envs.reset()
    assert envs.test_envs.get_obs_rms().count == envs.watch_env.get_obs_rms().count == 2
    assert environments(obs_norm=True).create_venv(1, EnvMode.TEST).update_obs_rms is False
