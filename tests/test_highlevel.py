"""The high-level API: parameters, builders, whole experiments, what they leave on disk and how it is restored."""
# ruff: noqa: E402  without the extra there is nothing to test

from __future__ import annotations

import json
import math
import pickle
import shutil
import subprocess
import sys
from dataclasses import fields
from functools import partial
from inspect import Parameter, signature
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import Actor, Mlp

for extra in ("joblib", "rliable", "scipy"):
    pytest.importorskip(extra)

import matplotlib as mpl
import rliable.library
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.data import Batch
from tianshou.env import VectorEnvNormObs
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.env import EnvFactoryRegistered as TianshouEnvFactory
from tianshou.highlevel.env import EnvMode, VectorEnvType
from tianshou.highlevel.experiment import ExperimentConfig
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
    LoggerFactoryEveryUpdate,
    NPGExperimentBuilder,
    NPGParams,
    StatePersistence,
    TRPOExperimentBuilder,
    TRPOParams,
    TrustRegionExperiment,
)

mpl.use("Agg")

BUILDERS = {NPG: (NPGExperimentBuilder, NPGParams), TRPO: (TRPOExperimentBuilder, TRPOParams)}
algorithms = pytest.mark.parametrize("algorithm", [NPG, TRPO])


def training(epochs=1, **options):
    return OnPolicyTrainingConfig(
        **{
            "max_epochs": epochs,
            "epoch_num_steps": 800,
            "collection_step_num_env_steps": 400,
            "num_training_envs": 2,
            "num_test_envs": 2,
            "batch_size": None,
        }
        | options
    )


def environments(task="Pendulum-v1", **options):
    return EnvFactoryRegistered(task=task, render_mode_watch=None, **options)


def quiet(**options):
    """An experiment that writes nothing."""
    return ExperimentConfig(persistence_enabled=False, watch=False, **options)


def with_params(builder, params):
    """Call the builder's method for parameters, whatever it is called."""
    return (builder.with_trpo_params if isinstance(builder, TRPOExperimentBuilder) else builder.with_npg_params)(params)


def make_builder(algorithm=TRPO, params=None, env_factory=None, config=None, **options):
    builder = BUILDERS[algorithm][0](env_factory or environments(), config or quiet(), training(**options))
    return builder.with_name("run") if params is None else with_params(builder.with_name("run"), params)


def outputs(world):
    """What the policy would do in 16 states as the test environments would show them."""
    raw = np.random.default_rng(0).normal(size=(16, *world.envs.get_observation_space().shape))
    obs = world.envs.test_envs.get_obs_rms().norm(raw) if isinstance(world.envs.test_envs, VectorEnvNormObs) else raw
    with torch.no_grad():
        return world.algorithm.policy(Batch(obs=obs.astype(np.float32), info={})).logits


def assert_same_policy(a, b):
    torch.testing.assert_close(outputs(a), outputs(b), rtol=0, atol=0)


def assert_same_state(a, b):
    torch.testing.assert_close(a.algorithm.state_dict(), b.algorithm.state_dict(), rtol=0, atol=0)
    assert_same_policy(a, b)


# The extra


def test_missing_extra_is_named_and_the_package_works_without():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['joblib', 'rliable', 'scipy']))\n"
        "import trpo_ts, trpo_ts.policies, trpo_ts.critics, trpo_ts.diagnostics\n"
        "try:\n    import trpo_ts.highlevel\n"
        "except ImportError as error:\n    assert 'pip install \"trpo-ts[highlevel]\"' in str(error), error\n"
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
    assert (algorithm.max_kl, algorithm.return_scaling, algorithm.cg_tolerance) == (0.03, True, 0.5)


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


# Whole runs


@algorithms
@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_short_run_with_tianshous_default_configuration(algorithm, task):
    config = OnPolicyTrainingConfig(max_epochs=1, epoch_num_steps=100, num_training_envs=2, num_test_envs=2)
    builder = BUILDERS[algorithm][0](environments(task), ExperimentConfig(persistence_enabled=False), config)
    result = builder.build().run(run_name="test")
    assert result.trainer_result.update_step == 1
    assert type(result.world.algorithm) is algorithm


def test_cartpole_is_learned_and_every_update_is_logged(tmp_path):
    config = ExperimentConfig(seed=1, persistence_base_dir=str(tmp_path), watch_num_episodes=2)
    builder = make_builder(
        params=TRPOParams(max_kl=0.02, critic_fit=GaussNewtonFit(), deterministic_eval=True),
        env_factory=environments("CartPole-v1"),
        config=config,
        epochs=2,
        epoch_num_steps=10_000,
        collection_step_num_env_steps=1000,
        num_training_envs=8,
        num_test_envs=8,
    )
    result = builder.build().run()
    assert result.trainer_result.best_reward > 195.0
    folder = tmp_path / "run" / "exp_seed=1"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {"experiment.pkl", "log.txt", "state_best.pt"}
    events = EventAccumulator(str(folder)).Reload()
    kl = [event.value for event in events.Scalars("update/kl/mean")]
    assert len(kl) == 20
    assert 0.0 < max(kl) <= 0.02 + 1e-6


def test_whole_episodes_are_collected_if_so_configured():
    collection = {"collection_step_num_env_steps": None, "collection_step_num_episodes": 4}
    result = make_builder(env_factory=environments("CartPole-v1"), **collection).build().run()
    assert result.trainer_result.train_step >= 800
    assert result.world.training_collector.collect_episode == 4 * result.trainer_result.update_step


def test_buffer_that_holds_no_rollout_is_refused():
    with pytest.raises(ValueError, match="buffer_size must be at least collection_step_num_env_steps = 400, got 399"):
        make_builder(buffer_size=399).build()


@pytest.fixture
def few_bootstraps(monkeypatch):
    """The evaluation as it is, with 100 resamples in place of up to 50,000."""
    for name in ("get_interval_estimates", "create_performance_profile"):
        monkeypatch.setattr(rliable.library, name, partial(getattr(rliable.library, name), reps=100))


@pytest.mark.usefixtures("few_bootstraps")
def test_several_seeds_and_their_evaluation(tmp_path):
    builder = make_builder(config=ExperimentConfig(seed=3, persistence_base_dir=str(tmp_path), watch=False), epochs=2)
    stats = builder.build_and_run(3)
    rewards = [s.best_reward for s in stats]
    assert len(set(rewards)) == 3
    again = builder.build_seeded_collection(3).experiments[1]
    assert again.run(run_name="again").trainer_result.best_reward == rewards[1]
    folder = tmp_path / "run"
    assert {p.name for p in folder.iterdir()} == {
        *(f"exp_seed={seed}" for seed in (3, 4, 5)),
        "iqm_sample_efficiency_curve_test.png",
        "performance_profile_test.png",
        "rliable_evaluation_test.json",
    }
    evaluation = json.loads((folder / "rliable_evaluation_test.json").read_text())
    assert [entry["env_step"] for entry in evaluation] == [0, 800, 1600]
    for entry in evaluation:
        low, high = entry["iqm_confidence_interval"]
        assert low <= entry["iqm"] <= high


# Persistence


FULL = {"return_scaling": True, "max_kl": 0.05}


def full_builder(base, epochs=2, env_factory=None, restore=None, **config):
    """An experiment with all that can be stored: optimiser, schedule, return and observation statistics."""
    directories = {"persistence_base_dir": str(base), "policy_restore_directory": restore and str(restore)}
    builder = make_builder(
        params=TRPOParams(lr_scheduler=LRSchedulerFactoryFactoryLinear(training(epochs=8)), **FULL),
        env_factory=env_factory or environments(obs_norm=True),
        config=ExperimentConfig(**directories, watch_num_episodes=1, **config),
        epochs=epochs,
    )
    return builder.with_logger_factory(LoggerFactoryEveryUpdate(save_interval=1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two epochs: its folder and its world."""
    base = tmp_path_factory.mktemp("finished")
    world = full_builder(base).build().run().world
    return Path(world.persist_directory), world


@pytest.fixture
def run(finished, tmp_path):
    """The finished run's folder, copied, so that a test may change it."""
    return Path(shutil.copytree(finished[0], tmp_path / "run" / "exp_seed=42"))


def test_folder_holds_experiment_log_and_states(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {"experiment.pkl", "log.txt", "state_best.pt", "state_epoch_1.pt", "state_epoch_2.pt"}
    state = torch.load(folder / "state_epoch_2.pt", weights_only=True)
    assert state.keys() == {"algorithm", "observations", "score"}
    assert math.isfinite(torch.load(folder / "state_best.pt", weights_only=True)["score"])


def test_states_are_those_of_their_epoch(finished):
    folder, world = finished
    state = torch.load(folder / "state_epoch_2.pt", weights_only=True)
    torch.testing.assert_close(state["algorithm"], world.algorithm.state_dict(), rtol=0, atol=0)
    statistics = world.envs.training_envs.get_obs_rms()
    assert np.array_equal(state["observations"]["mean"].numpy(), statistics.mean)
    assert np.array_equal(state["observations"]["var"].numpy(), statistics.var)
    assert state["observations"]["count"] == statistics.count > 1600


@pytest.mark.parametrize("pickled", [True, False])
def test_best_policy_is_restored_bit_for_bit(tmp_path, pickled):
    experiment = full_builder(tmp_path).build()
    world = experiment.create_experiment_world()
    saved, best = world.trainer.params.save_best_fn, []

    def save(algorithm):
        saved(algorithm)
        best.append(outputs(world))

    world.trainer.params.save_best_fn = save
    world.trainer.run()
    if pickled:
        restored = TrustRegionExperiment.from_directory(world.persist_directory)
        restored.config.train = False
    else:
        restored = full_builder(tmp_path, restore=world.persist_directory, train=False).build()
    result = restored.run(run_name="watch")
    assert result.trainer_result is None
    assert torch.equal(outputs(result.world)[0], best[-1][0])
    assert torch.equal(outputs(result.world)[1], best[-1][1])
    statistics = [envs.get_obs_rms() for envs in (result.world.envs.test_envs, result.world.envs.watch_env)]
    assert statistics[0].count == statistics[1].count > 0


def test_run_continues_where_it_stopped(finished, run):
    _, world = finished
    experiment = TrustRegionExperiment.from_directory(str(run))
    experiment.config.persistence_base_dir = str(run.parent.parent)
    experiment.training_config.max_epochs = 3
    continued = experiment.create_experiment_world(raise_error_on_dirname_collision=False)
    assert_same_state(continued, world)
    assert continued.algorithm.lr_schedulers[0].last_epoch == 4
    result = experiment.run(raise_error_on_dirname_collision=False)
    assert result.trainer_result.update_step == 6
    assert (run / "state_epoch_3.pt").exists()
    events = EventAccumulator(str(run)).Reload()
    assert [e.step for e in events.Scalars("update/kl/mean")] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in events.Scalars("training/n_collected_steps")] == [400, 800, 1200, 1600, 2000, 2400]


def test_continued_run_keeps_a_better_state(run):
    state = torch.load(run / "state_best.pt", weights_only=True)
    torch.save(state | {"score": 1e9}, run / "state_best.pt")
    before = (run / "state_best.pt").read_bytes()
    experiment = full_builder(run.parent.parent, epochs=3, restore=run, watch=False).build()
    experiment.run(raise_error_on_dirname_collision=False)
    assert (run / "state_best.pt").read_bytes() == before
    assert (run / "state_epoch_3.pt").exists()


def test_other_run_starts_from_the_best_state_with_counts_of_its_own(run):
    experiment = full_builder(run.parent.parent, epochs=1, restore=run, watch=False).build()
    world = experiment.create_experiment_world(override_experiment_name="other")
    best = torch.load(run / "state_best.pt", weights_only=True)["algorithm"]
    torch.testing.assert_close(world.algorithm.state_dict(), best, rtol=0, atol=0)
    assert world.trainer.run().train_step == 800


REFUSED = r"state_best\.pt must be a whole state that a run of trpo_ts\.highlevel saved"


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def test_file_from_an_untrusted_source_runs_no_code(run, tmp_path):
    torch.save({"algorithm": Payload(tmp_path / "ran"), "observations": None, "score": 0.0}, run / "state_best.pt")
    (run / "experiment.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    experiment = full_builder(tmp_path, restore=run, train=False).build()
    with pytest.raises(ValueError, match=REFUSED):
        experiment.run(run_name="watch")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps([1], protocol=2), None])
def test_other_files_are_refused(run, tmp_path, content):
    if content is None:
        torch.save({"weights": 1}, run / "state_best.pt")
    else:
        (run / "state_best.pt").write_bytes(content)
    experiment = full_builder(tmp_path, restore=run, train=False).build()
    with pytest.raises(ValueError, match=REFUSED):
        experiment.run(run_name="watch")


@pytest.mark.parametrize("kind", ["cut", "changed"])
def test_damaged_file_is_refused(run, tmp_path, kind):
    content = bytearray((run / "state_best.pt").read_bytes())
    weight = torch.load(run / "state_best.pt", weights_only=True)["algorithm"]["critic.last.weight"]
    if kind == "cut":
        del content[-1000:]
    else:
        content[content.index(weight.numpy().tobytes())] ^= 1
    (run / "state_best.pt").write_bytes(content)
    experiment = full_builder(tmp_path, restore=run, train=False).build()
    with pytest.raises(ValueError, match=REFUSED + ", got .*damaged"):
        experiment.run(run_name="watch")


def test_missing_state_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    experiment = full_builder(tmp_path, restore=tmp_path / "empty", train=False).build()
    with pytest.raises(FileNotFoundError, match=r"state_best\.pt does not exist; restore from the folder of a run"):
        experiment.run()


@pytest.mark.parametrize("normalised", [True, False])
def test_statistics_and_environments_must_fit(tmp_path, normalised):
    saved = full_builder(tmp_path, epochs=1, env_factory=environments(obs_norm=normalised)).build().run(run_name="a")
    other = environments(obs_norm=not normalised)
    experiment = full_builder(
        tmp_path, env_factory=other, restore=saved.world.persist_directory, train=False, watch=False
    ).build()
    with pytest.raises(ValueError, match="must hold observation statistics exactly if the environments normalise"):
        experiment.create_experiment_world(override_experiment_name="b")


def test_interrupted_write_leaves_the_old_state(finished, run, monkeypatch):
    _, world = finished
    before = (run / "state_best.pt").read_bytes()
    files = sorted(run.iterdir())

    def broken(state, file):
        file.write(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    monkeypatch.setattr(world, "persist_directory", str(run))
    with pytest.raises(OSError, match="disk full"):
        StatePersistence().persist(world.algorithm, world)
    assert (run / "state_best.pt").read_bytes() == before
    assert sorted(run.iterdir()) == files


def test_nothing_is_written_where_persistence_is_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_builder().build().run()
    assert list(tmp_path.iterdir()) == []
