"""A critic with batch norm and passes of one row: an error that says what to do, and nothing is changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rollouts import OBS_DIM, make_actor_policy, make_rollout, make_trpo, update
from torch import nn

from trpo_ts.critics import MinibatchFit
from trpo_ts.validation.batch_statistics import named_batch_statistics

pytestmark = pytest.mark.usefixtures("seeded")


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(OBS_DIM, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, obs: Any) -> torch.Tensor:
        return self.layers(torch.as_tensor(obs, dtype=torch.float32))


def test_a_minibatch_of_one_row_is_named_and_undone() -> None:
    algorithm = make_trpo(make_actor_policy(), Critic(), critic_fit=MinibatchFit(epochs=1, batch_size=1))
    buffer = make_rollout(algorithm.policy)
    before = {key: value.clone() for key, value in algorithm.critic.state_dict().items()}
    policy = [p.clone() for p in algorithm.policy.parameters()]
    with pytest.raises(ValueError, match=r"critic must be given at least 2 observations .* got 1: batch norm"):
        update(algorithm, buffer)
    assert all(torch.equal(value, before[key]) for key, value in algorithm.critic.state_dict().items())
    assert all(torch.equal(old, new) for old, new in zip(policy, algorithm.policy.parameters(), strict=True))


@pytest.mark.parametrize("micro_batch_size", [1, 5])
def test_micro_batches_do_not_change_the_statistics(micro_batch_size: int) -> None:
    whole = make_trpo(make_actor_policy(), Critic(), optim_critic_iters=3)
    parts = make_trpo(
        copy.deepcopy(whole.policy),
        copy.deepcopy(whole.critic),
        optim_critic_iters=3,
        micro_batch_size=micro_batch_size,
    )
    buffer = make_rollout(whole.policy)
    losses = [update(algorithm, buffer).vf_loss.mean for algorithm in (whole, parts)]
    assert losses[0] == losses[1]
    for name, value in whole.critic.state_dict().items():
        assert torch.equal(value, parts.critic.state_dict()[name]), name


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"^of its own$"), named_batch_statistics("critic", nn.Linear(2, 2), 1):
        raise ValueError("of its own")
    with pytest.raises(ValueError, match=r"^of its own$"), named_batch_statistics("critic", nn.BatchNorm1d(2), 2):
        raise ValueError("of its own")
