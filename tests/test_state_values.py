"""Values of a rollout: which of them are computed, and which are reused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bandit import Critic, as_float, make_algorithm, observations, rollout
from episodes import algorithm_with, fill, rollout_from, steps_of_env
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, update


def test_the_critic_sees_each_observation_once_and_the_next_one_only_where_an_episode_breaks():
    rng = np.random.default_rng(3)
    envs = [steps_of_env(ends, rng) for ends in ("..T..L...", ".........")]
    algorithm = algorithm_with()
    rollout_from(algorithm, fill(envs, 10))
    assert algorithm.critic.rows == 18 + 4  # a termination, a truncation, the ends of two environments


def test_critic_of_another_shape_is_refused():
    policy = make_actor_policy()
    with pytest.raises(ValueError, match=r"critic must return one value per observation, got \(64, 3\)"):
        update(make_trpo(policy, Mlp((OBS_DIM, 8, 3))), make_rollout(policy))


class HalfCritic(Critic):
    def __init__(self) -> None:
        super().__init__(lambda obs: as_float(obs).to(self.last.weight.dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_critic_in_half_precision_is_read_in_float32(dtype: torch.dtype) -> None:
    """NumPy, in which returns are computed, has no bfloat16."""
    torch.manual_seed(0)
    critic = HalfCritic()
    algorithm = make_algorithm(critic=critic)
    buffer = rollout(algorithm.policy, observations())
    critic.to(dtype)
    before = critic.last.weight.detach().clone()
    stats = update(algorithm, buffer)
    assert stats.accepted
    assert not torch.equal(critic.last.weight, before)
    assert critic.last.weight.dtype == dtype
