"""The transitions of an agent among those of others, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rollouts import make_actor_policy, make_rollout
from tianshou.data import Batch, VectorReplayBuffer

from trpo_ts.advantages import generalised_advantages
from trpo_ts.returns import lambda_returns
from trpo_ts.turns import own_transitions

A, B = "a", "b"


def row(agent: str, seen: float, agent_next: str, seen_next: float, rew: Any, end: str = "") -> Batch:
    def obs(name: str, value: float) -> Batch:
        return Batch(agent_id=name, obs=np.array([value]), mask=np.array([True, True]))

    return Batch(
        obs=obs(agent, seen),
        act=0,
        rew=np.array(rew, dtype=float),
        terminated=end == "terminated",
        truncated=end == "truncated",
        obs_next=obs(agent_next, seen_next),
        info={},
    )


FIRST = [  # an episode that B's move ends, and the beginning of another
    row(A, 1.0, B, 2.0, [0.0, 0.5]),
    row(B, 2.0, A, 3.0, [0.25, 0.0]),
    row(A, 3.0, B, 4.0, [0.0, 0.0]),
    row(B, 4.0, A, 5.0, [-1.0, 1.0], "terminated"),
    row(A, 6.0, B, 7.0, [2.0, 0.0]),
]
SECOND = [  # A moves twice in a row; the time is up
    row(A, 8.0, A, 9.0, [1.0, 0.0]),
    row(A, 9.0, B, 10.0, [1.0, 4.0]),
    row(B, 10.0, B, 11.0, [8.0, 2.0], "truncated"),
    row(B, 12.0, A, 13.0, [0.0, 1.0]),
    row(A, 13.0, A, 14.0, [16.0, 32.0]),
]


def filled(size: int = 10, masks: bool = True) -> VectorReplayBuffer:
    buffer = VectorReplayBuffer(size, 2)
    for first, second in zip(FIRST, SECOND, strict=True):
        rows = [Batch(first, copy=True), Batch(second, copy=True)]
        for obs in [value for item in rows for value in (item.obs, item.obs_next)] if not masks else []:
            obs.pop("mask")
        buffer.add(Batch.stack(rows), buffer_ids=[0, 1])
    return buffer


def dispatched(buffer: VectorReplayBuffer, agent: str) -> tuple[Any, Any, np.ndarray]:
    """Return what Tianshou's dispatcher gives an agent: rows, buffer and indices."""
    batch, indices = buffer.sample(0)
    chosen = np.flatnonzero(batch.obs.agent_id == agent)
    rows, number = batch[chosen], [A, B].index(agent)
    rows.rew = rows.rew[:, number]
    buffer._meta.rew = buffer.rew[:, number]
    if not hasattr(rows.obs, "mask"):
        rows.obs, rows.obs_next = rows.obs.obs, rows.obs_next.obs
    return rows, buffer, indices[chosen]


EXPECTED = {
    # Rows 1, 3, 6 of the first environment and 8, 9, 13 of the second. At the end of what is known of an episode, it is
    # B's turn in the first, so A's own view stays; at the truncation B sees 11, and A keeps its 9.
    A: {
        "rew": [0.25, -1.0, 2.0, 1.0, 9.0, 16.0],
        "seen": [3.0, 5.0, 6.0, 9.0, 9.0, 14.0],
        "terminated": [False, True, False, False, False, False],
        "truncated": [False, False, True, False, True, True],
    },
    B: {
        "rew": [0.0, 1.0, 2.0, 33.0],
        "seen": [4.0, 4.0, 11.0, 12.0],
        "terminated": [False, True, False, False],
        "truncated": [False, False, True, True],
    },
}


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("agent", [A, B])
def test_a_transition_lasts_until_the_agents_next_turn(agent: str, masks: bool) -> None:
    batch, buffer, indices = dispatched(filled(masks=masks), agent)
    before = Batch(batch, copy=True)
    own, expected = own_transitions(batch, buffer, indices), EXPECTED[agent]
    np.testing.assert_array_equal(own.rew, expected["rew"])
    np.testing.assert_array_equal((own.obs_next.obs if masks else own.obs_next)[~own.terminated, 0], seen(expected))
    np.testing.assert_array_equal(own.terminated, expected["terminated"])
    np.testing.assert_array_equal(own.truncated, expected["truncated"])
    np.testing.assert_array_equal(own.done, own.terminated | own.truncated)
    assert own.act is batch.act
    assert batch == before


def seen(expected: Any) -> list[float]:
    """Return the next observations where they count: after the last one of an episode there is none."""
    return [value for value, over in zip(expected["seen"], expected["terminated"], strict=True) if not over]


def test_a_buffer_that_has_gone_round_is_in_the_order_of_time() -> None:
    buffer = filled(size=8)  # the first row of each environment is lost
    batch, buffer, indices = dispatched(buffer, A)
    own, expected = own_transitions(batch, buffer, indices), EXPECTED[A]
    np.testing.assert_array_equal(own.rew, [expected["rew"][i] for i in (1, 2, 4, 5)])
    np.testing.assert_array_equal(own.truncated, [expected["truncated"][i] for i in (1, 2, 4, 5)])


def test_advantages_end_where_the_agents_episodes_do() -> None:
    r"""With values of 1 everywhere: :math:`A_t = r_t + \gamma V' - V + \gamma \lambda A_{t+1}`, here with 1/2 each."""
    batch, buffer, indices = dispatched(filled(), A)
    own = own_transitions(batch, buffer, indices)
    ones = np.ones(len(indices))
    advantages = generalised_advantages(own, buffer, indices, values=ones, next_values=ones, gamma=0.5, gae_lambda=0.5)
    lost = -1.0 - 1.0  # V' is 0: the episode has terminated, though in a row of B's
    expected = [0.25 - 0.5 + 0.25 * lost, lost, 1.5, 0.5 + 0.25 * 8.5, 8.5, 15.5]
    np.testing.assert_allclose(advantages, expected, rtol=1e-12)
    np.testing.assert_allclose(lambda_returns(advantages, ones), np.array(expected) + 1.0, rtol=1e-12)


def test_the_rows_of_a_single_agent_stay_as_they_are() -> None:
    buffer = make_rollout(make_actor_policy())
    batch, indices = buffer.sample(0)
    assert own_transitions(batch, buffer, indices) is batch
