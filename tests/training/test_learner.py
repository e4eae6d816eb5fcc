"""Networks and TRPO as settings describe them."""

from __future__ import annotations

import inspect
from dataclasses import fields

import gymnasium as gym
import numpy as np
import pytest
from tianshou.data import Batch

from trpo_ts import TRPO
from trpo_ts.critics import MinibatchFit
from trpo_ts.policies import make_policy
from trpo_ts.presets import Settings
from trpo_ts.training.components import preconditioner_of
from trpo_ts.training.learner import make_learner

BOX = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)


def test_every_parameter_of_trpo_is_a_setting_with_its_default():
    parameters = inspect.signature(TRPO).parameters
    settings = {field.name: field.default for field in fields(Settings)}
    built = {"policy", "critic", "optim"}
    unused = {"trust_region_size"}  # TRPO does not read it
    assert parameters.keys() - built - unused <= settings.keys()
    for name in parameters.keys() & settings.keys() - {"max_batchsize"}:
        default = parameters[name].default
        value = preconditioner_of(settings[name]) if name == "preconditioner" else settings[name]
        assert value == default, name


def test_every_parameter_of_the_policy_is_a_setting_with_its_default():
    settings = {field.name: field.default for field in fields(Settings)}
    parameters = inspect.signature(make_policy).parameters
    elsewhere = {"observation_space", "action_space", "trunk", "activation", "deterministic_eval"}
    for name in parameters.keys() - elsewhere:
        assert settings[name] == parameters[name].default, name


def test_settings_reach_the_learner():
    settings = Settings(
        hidden_sizes=(5, 6),
        activation="elu",
        layer_norm=True,
        initial_std=0.25,
        critic_fit="MinibatchFit(epochs=3)",
        preconditioner=None,
        max_kl=0.5,
        gamma=0.75,
        lr=0.125,
    )
    algorithm = make_learner(settings, BOX, BOX)
    assert algorithm.critic_fit == MinibatchFit(epochs=3)
    assert algorithm.preconditioner is None
    assert (algorithm.max_kl, algorithm.gamma) == (0.5, 0.75)
    kinds = [type(layer).__name__ for layer in algorithm.critic.preprocess.layers]
    assert kinds == ["Linear", "LayerNorm", "ELU"] * 2
    assert [layer.out_features for layer in algorithm.critic.preprocess.layers if hasattr(layer, "out_features")] == [
        5,
        6,
    ]
    assert algorithm.optim._optim.param_groups[0]["lr"] == 0.125
    acted = algorithm.policy(Batch(obs=np.zeros((2, 3), np.float32), info=Batch()))
    assert acted.dist.stddev.flatten().tolist() == pytest.approx([0.25] * 6)


def test_a_mask_is_read():
    space = gym.spaces.Dict(x=BOX, mask=gym.spaces.Box(0, 1, (2,), np.int8))
    algorithm = make_learner(Settings(mask_key="mask"), space, gym.spaces.Discrete(2))
    obs = Batch(x=np.zeros((3, 3), np.float32), mask=np.array([[0, 1]] * 3, np.int8))
    assert algorithm.policy(Batch(obs=obs, info=Batch())).act.tolist() == [1, 1, 1]


def test_layer_norm_and_a_memory_exclude_each_other():
    with pytest.raises(ValueError, match="layer_norm must be False with memory='gru'"):
        make_learner(Settings(memory="gru", layer_norm=True), BOX, BOX)
