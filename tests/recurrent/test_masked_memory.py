"""Policies with a memory and a mask of valid actions, both at once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import update
from sequenced import CELLS, logp_old
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts import TRPO
from trpo_ts.collectors import RolloutCollector
from trpo_ts.critics import make_recurrent_critic
from trpo_ts.envs import FlatAction
from trpo_ts.network_inputs import takes_tensors
from trpo_ts.policies import make_recurrent_policy

ASKED, NUMBERS = 3, 4


class RecallParity(gym.Env[Any, int]):
    """A first observation says "even" or "odd"; three steps later one even and one odd number are valid.

    The one that was asked for pays 1. Who does not remember gets half of it; who takes an invalid number ends the test.
    """

    observation_space = spaces.Dict(seen=spaces.Box(-1.0, 1.0, (2,), np.float32), mask=spaces.MultiBinary(NUMBERS))
    action_space = spaces.Discrete(NUMBERS)

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.parity, self.time = int(self.rng.integers(2)), 0
        return self._seen([2.0 * self.parity - 1.0, 0.0]), {}

    def step(self, action: int) -> Any:
        assert self.valid[action]
        over = self.time == ASKED
        self.time += 1
        return self._seen([0.0, self.time == ASKED]), float(over and action % 2 == self.parity), over, False, {}

    def _seen(self, seen: list[float]) -> dict[str, Any]:
        self.valid = np.zeros(NUMBERS, np.int8)
        self.valid[[2 * self.rng.integers(2), 1 + 2 * self.rng.integers(2)]] = 1
        return {"seen": np.array(seen, np.float32), "mask": self.valid}


def make_learner(cell: str) -> tuple[TRPO, Collector]:
    torch.manual_seed(0)
    widths: Any = {"hidden_size": 8, "encoder_sizes": (8,), "hidden_sizes": (8,), "cell": cell}
    seen = RecallParity.observation_space
    policy = make_recurrent_policy(seen, RecallParity.action_space, mask_key="mask", **widths)
    critic = make_recurrent_critic(seen, **widths)
    algorithm = TRPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=3e-3), max_kl=0.05, gamma=1.0)
    envs = DummyVectorEnv([lambda i=i: RecallParity(i) for i in range(16)])
    collector = RolloutCollector(policy, envs, VectorReplayBuffer(16 * 20, 16))
    collector.reset()
    return algorithm, collector


def collect(algorithm: TRPO, collector: Collector) -> float:
    collector.reset_buffer(keep_statistics=True)
    with policy_within_training_step(algorithm.policy):
        return float(collector.collect(n_step=collector.buffer.maxsize).returns.mean())


@pytest.mark.parametrize("cell", CELLS)
def test_it_learns_what_only_memory_tells_among_the_valid_actions(cell: str) -> None:
    algorithm, collector = make_learner(cell)
    assert collect(algorithm, collector) == pytest.approx(0.5, abs=0.15)
    for _ in range(25):
        stats = update(algorithm, collector.buffer)
        assert stats.kl.mean <= 0.05
        reached = collect(algorithm, collector)
    assert reached > 0.9


@pytest.mark.parametrize("cell", CELLS)
def test_log_probabilities_are_the_behaviours_and_invalid_actions_have_none(cell: str) -> None:
    algorithm, collector = make_learner(cell)
    recorded: list[np.ndarray] = []

    def note(action_batch: Any, rollout_batch: Any) -> None:
        dist = action_batch.dist
        recorded.append(dist.log_prob(torch.as_tensor(action_batch.act)).detach().numpy())
        assert torch.equal(dist.probs > 0, torch.as_tensor(rollout_batch.obs.mask) == 1)

    collector = Collector(algorithm.policy, collector.env, collector.buffer, on_step_hook=note)
    collector.reset()
    collect(algorithm, collector)
    behaviour = torch.as_tensor(np.stack(recorded).T.reshape(-1))
    torch.testing.assert_close(logp_old(algorithm, collector.buffer).float(), behaviour, rtol=0, atol=1e-5)


def test_the_mask_is_not_remembered_and_passes_as_made_once() -> None:
    policy = make_learner("gru")[0].policy
    assert takes_tensors(policy.actor)
    seen = np.ones((2, 2), np.float32)
    masks = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])
    result = policy(Batch(obs=Batch(seen=seen, mask=masks), info={}))
    assert torch.equal(result.state.after[0], result.state.after[1])


def test_mixed_actions_have_a_mask_and_a_memory_too() -> None:
    action_space = FlatAction(spaces.Dict(a=spaces.Box(-1.0, 1.0, (2,)), b=spaces.Discrete(3)))
    seen = spaces.Dict(seen=spaces.Box(-1.0, 1.0, (2,), np.float32), mask=spaces.MultiBinary(3))
    policy = make_recurrent_policy(seen, action_space, mask_key="mask")
    obs = Batch(seen=np.zeros((5, 2), np.float32), mask=np.array([[0, 1, 0]] * 5))
    result = policy(Batch(obs=obs, info={}))
    assert result.act.shape == (5, 3)
    assert (result.act[:, 2] == 1).all()
    assert result.state.after.shape == (5, 64)


@pytest.mark.parametrize(
    ("mask_key", "action_space", "message"),
    [
        ("valid", spaces.Discrete(NUMBERS), r"mask_key must be one of several keys of a Dict observation, got 'valid'"),
        (
            "mask",
            spaces.Discrete(3),
            r"observation_space\['mask'\] must be .* one number for each category .* 3 in all",
        ),
        ("mask", spaces.Box(-1.0, 1.0, (1,)), r"mask_key must be None for a Box of actions, got 'mask'"),
    ],
)
def test_what_does_not_fit_is_named_in_the_environments_own_words(
    mask_key: str, action_space: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_recurrent_policy(RecallParity.observation_space, action_space, mask_key=mask_key)
