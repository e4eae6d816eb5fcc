"""Arguments as other libraries call them: the error says what to write here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import gymnasium as gym
import pytest
from rollouts import BOX, OBSERVATIONS, Bandit, make_actor_policy, make_trpo

from trpo_ts import NPG, TRPO
from trpo_ts.critics import make_critic, make_recurrent_critic
from trpo_ts.highlevel import NPGParams, TRPOParams
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.validation.argument_names import ALGORITHM_NAMES, NETWORK_NAMES


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("target_kl", 0.01, "write max_kl"),  # Stable-Baselines3
        ("line_search_shrinking_factor", 0.8, "write backtrack_coeff"),
        ("n_critic_updates", 10, "write optim_critic_iters"),
        ("learning_rate", 1e-3, r"write optim=AdamOptimizerFactory\(lr=...\)"),
        ("policy_kwargs", {}, r"write policy=trpo_ts.policies.make_policy\(...\)"),
        ("delta", 0.01, "write max_kl"),  # Spinning Up
        ("damping_coeff", 0.1, "write cg_damping"),
        ("lam", 0.97, "write gae_lambda"),
        ("backtrack_iters", 10, "write max_backtracks"),
        ("discount_factor", 0.99, "write gamma"),  # Tianshou before 2
        ("reward_normalization", True, "write return_scaling"),
        ("max_k1", 0.01, r"did you mean max_kl\?"),
        ("wibble", 1, "its parameters are policy, critic, optim, max_kl,"),
    ],
)
def test_a_foreign_name_is_answered_with_what_to_write(name: str, value: Any, fix: str) -> None:
    message = rf"^TRPO\(\) got an unexpected keyword argument '{name}'; {fix}"
    with pytest.raises(TypeError, match=message):
        make_trpo(make_actor_policy(), **{name: value})


@pytest.mark.parametrize("kind", [TRPO, NPG])
def test_arguments_by_position_are_answered_with_the_names(kind: Any) -> None:
    name = kind.__name__
    message = rf"^{name}\(\) takes its arguments by name, got 'MlpPolicy' by position; write {name}\(policy=..."
    with pytest.raises(TypeError, match=message):
        kind("MlpPolicy", Bandit(), target_kl=0.01)


@pytest.mark.parametrize("make", [make_policy, make_recurrent_policy])
@pytest.mark.parametrize("by_name", [False, True])
def test_an_environment_in_place_of_its_spaces(make: Any, by_name: bool) -> None:
    message = (
        rf"^observation_space must be a gymnasium Space, got the environment Bandit; "
        rf"write {make.__name__}\(env.observation_space, env.action_space\)"
    )
    with pytest.raises(ValueError, match=message):
        make(observation_space=Bandit()) if by_name else make(Bandit())
    with pytest.raises(ValueError, match=r"^action_space must be a gymnasium Space, got the environment Bandit"):
        make(OBSERVATIONS, Bandit())


@pytest.mark.parametrize("make", [make_critic, make_recurrent_critic])
def test_an_environment_in_place_of_a_critics_space(make: Any) -> None:
    message = rf"got the environment OrderEnforcing; write {make.__name__}\(env.observation_space\)"
    with pytest.raises(ValueError, match=message):
        make(gym.wrappers.OrderEnforcing(Bandit()))


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("net_arch", "write hidden_sizes"),
        ("activation_fn", "write activation"),
        ("log_std_init", "write initial_std"),
        ("hidden_size", r"did you mean hidden_sizes\?"),
    ],
)
def test_networks_have_foreign_names_too(name: str, fix: str) -> None:
    with pytest.raises(TypeError, match=rf"^make_policy\(\) got an unexpected keyword argument '{name}'; {fix}"):
        make_policy(OBSERVATIONS, BOX, **{name: 1})


def test_options_that_a_recurrent_policy_hands_on_are_answered() -> None:
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'log_std_init'; write initial_std"):
        make_recurrent_policy(OBSERVATIONS, BOX, log_std_init=-0.5)


@pytest.mark.parametrize("kind", [TRPOParams, NPGParams])
def test_the_high_level_parameters_answer_as_well(kind: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{kind.__name__}\(\) got an unexpected keyword argument 'lam'; write gae_l"):
        kind(lam=0.97)
    assert kind(gae_lambda=0.97).gae_lambda == 0.97


def test_what_is_advised_exists() -> None:
    for names, made in ((ALGORITHM_NAMES, TRPO), (NETWORK_NAMES, make_policy)):
        known = inspect.signature(made).parameters
        assert not set(names) & set(known)
        bare = {fix for fix in names.values() if re.fullmatch(r"\w+", fix)}
        assert bare <= set(known)
    assert {"max_kl", "cg_iters", "gae_lambda"} <= set(ALGORITHM_NAMES.values())


def test_signatures_are_as_written() -> None:
    assert list(inspect.signature(TRPO).parameters)[:4] == ["policy", "critic", "optim", "max_kl"]
    assert list(inspect.signature(make_policy).parameters)[:3] == ["observation_space", "action_space", "hidden_sizes"]
