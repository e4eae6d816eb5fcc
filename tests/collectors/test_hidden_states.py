"""Hidden states of every kind are reset where episodes end, and the states before stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from collecting import Unsteady
from rollouts import make_actor_policy
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts.collectors import RolloutCollector
from trpo_ts.collectors.hidden_states import hidden_rows, joined_states, with_new_memory

STATES = {
    "tensor": torch.ones(4, 2),
    "array": np.ones((4, 2)),
    "batch": Batch(a=torch.ones(4, 2), b=Batch(c=np.ones(4))),
}


def total(state: Any) -> list[float]:
    if isinstance(state, Batch):
        return [sum(row) for row in zip(*(total(value) for value in state.values()), strict=True)]
    return torch.as_tensor(state).reshape(len(state), -1).sum(dim=1).tolist()


@pytest.mark.parametrize("kind", STATES)
def test_rows_are_emptied_and_the_state_before_stays(kind: str) -> None:
    state = STATES[kind]
    before = total(state)
    after = total(with_new_memory(state, np.array([1, 3])))
    assert after == [before[0], 0.0, before[2], 0.0]
    assert total(state) == before


@pytest.mark.parametrize("kind", STATES)
def test_rows_are_taken_and_joined(kind: str) -> None:
    state = STATES[kind]
    parts = [hidden_rows(state, np.array([0, 2])), hidden_rows(state, np.array([True, False, False, True]))]
    assert total(joined_states(parts)) == total(state)
    assert joined_states([None, None]) is None


class _Counter(torch.nn.Module):
    """Counts the steps of each episode in a state that is a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Linear(3, 2)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        mean = self.mean(torch.as_tensor(obs))
        state = torch.zeros(len(mean), 1) if state is None else torch.as_tensor(state)
        return (mean, torch.ones_like(mean)), state + 1.0


def test_a_plain_tensor_is_reset_where_an_episode_ends() -> None:
    """Tianshou's collector counts on: it zeroes a copy."""
    counted = {}
    for kind in (Collector, RolloutCollector):
        policy = make_actor_policy(actor=_Counter())
        buffer = VectorReplayBuffer(200, 2)
        collector = kind(policy, DummyVectorEnv([Unsteady] * 2), buffer)
        collector.reset(gym_reset_kwargs={"seed": 3})
        with policy_within_training_step(policy):
            collector.collect(n_step=100)
        steps = np.asarray(buffer.policy.hidden_state[:50]).ravel()
        first = np.append(True, buffer.done[:49])
        counted[kind] = steps[first]
    assert (counted[RolloutCollector] == 1.0).all()
    assert (counted[Collector] > 1.0).any()
