"""Experiments of the high-level API that its tests share; the extra must be installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tianshou.data import Batch
from tianshou.env import VectorEnvNormObs
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.experiment import ExperimentConfig

from trpo_ts import NPG, TRPO
from trpo_ts.highlevel import EnvFactoryRegistered, NPGExperimentBuilder, NPGParams, TRPOExperimentBuilder, TRPOParams

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
