"""Several agents of PettingZoo by Tianshou's multi-agent algorithm, with TRPO for each."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec
from rollouts import update
from tianshou.algorithm.multiagent.marl import MultiAgentOnPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.env.pettingzoo_env import PettingZooEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.torch_utils import policy_within_training_step
from tic_tac_toe import OBSERVATIONS, TicTacToe, score_against_chance

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy, make_recurrent_policy

MAX_KL = 0.02
PLAYERS = ["player_1", "player_2"]


def player(**options: Any) -> TRPO:
    return TRPO(
        policy=make_policy(OBSERVATIONS, spaces.Discrete(9), mask_key="mask", deterministic_eval=False, **options),
        critic=make_critic(OBSERVATIONS),
        optim=AdamOptimizerFactory(lr=1e-3),
        max_kl=MAX_KL,
    )


def training(make_env: Any, agents: list[Any], n_envs: int = 8, size: int = 128) -> tuple[Any, Collector]:
    algorithm = MultiAgentOnPolicyAlgorithm(algorithms=agents, env=PettingZooEnv(make_env()))
    envs = DummyVectorEnv([lambda: PettingZooEnv(make_env()) for _ in range(n_envs)])
    collector = Collector(algorithm, envs, VectorReplayBuffer(size * n_envs, n_envs))
    collector.reset()
    return algorithm, collector


def step(algorithm: Any, collector: Collector) -> Any:
    """Collect a buffer full and update."""
    collector.reset_buffer()
    with policy_within_training_step(algorithm.policy):
        collector.collect(n_step=collector.buffer.maxsize)
    return update(algorithm, collector.buffer).get_loss_stats_dict()


def test_each_agent_stays_within_its_trust_region() -> None:
    torch.manual_seed(0)
    algorithm, collector = training(TicTacToe, [player(), player()])
    for _ in range(2):
        before = [copy.deepcopy(algorithm.get_algorithm(name).policy) for name in PLAYERS]
        stats = step(algorithm, collector)
        rollout = collector.buffer.sample(0)[0]
        for name, old in zip(PLAYERS, before, strict=True):
            rows = rollout[rollout.obs.agent_id == name]
            kl = mean_kl_over(old, algorithm.get_algorithm(name).policy, rows.obs)
            assert 0.0 < kl <= MAX_KL
            assert stats[f"{name}/kl"] == pytest.approx(kl, rel=1e-3)


def mean_kl_over(old: Any, new: Any, obs: Any) -> float:
    with torch.no_grad():
        logits = [policy.actor(obs)[0].double().log_softmax(dim=1) for policy in (old, new)]
    p = logits[0].exp()
    return float(torch.where(p > 0, p * (logits[0] - logits[1]), 0.0).sum(dim=1).mean())


def test_both_players_of_tic_tac_toe_learn() -> None:
    """Against moves at random the first player starts at about 0.3 and the second at -0.3.

    Where a loss, which stands in the other's row, is not seen, neither of them learns.
    """
    torch.manual_seed(0)
    algorithm, collector = training(TicTacToe, [player(), player()])
    for _ in range(15):
        step(algorithm, collector)
    first, second = (score_against_chance(algorithm.get_algorithm(name).policy, i) for i, name in enumerate(PLAYERS))
    assert first > 0.45
    assert second > -0.1


def test_tianshous_trainer_runs_it() -> None:
    algorithm, collector = training(TicTacToe, [player(), player()])
    result = algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            test_collector=Collector(algorithm, collector.env),
            max_epochs=1,
            epoch_num_steps=1024,
            collection_step_num_env_steps=512,
            test_step_num_episodes=8,
            update_step_num_repetitions=1,
            batch_size=None,
            multi_agent_return_reduction=lambda returns: returns[:, 0],
        )
    )
    assert result.update_step == 2
    assert -1.0 <= result.best_reward <= 1.0


def test_agents_that_act_by_the_mode_are_refused() -> None:
    """Tianshou does not tell the agents that a step is one of training: they do not explore."""
    agents = [player(), player()]
    for agent in agents:
        agent.policy.deterministic_eval = True
    algorithm, collector = training(TicTacToe, agents)
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(ValueError, match=r"batch.act must be drawn .* deterministic_eval=False"):
        step(algorithm, collector)
    after = algorithm.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if isinstance(before[key], torch.Tensor))


def test_agents_with_a_memory_are_told_that_nobody_carries_it() -> None:
    agents = [player(), player()]
    for agent in agents:
        agent.policy = make_recurrent_policy(OBSERVATIONS, spaces.Discrete(9), mask_key="mask")
    algorithm, collector = training(TicTacToe, agents)
    with pytest.raises(ValueError, match=r"state must hold .* got none; .* agents need policies without memory"):
        step(algorithm, collector)


class Aim(ParallelEnv):
    """Both choose at the same time; each is paid for its own choice, at the end of the cycle: in the last one's row."""

    metadata = {"name": "aim", "is_parallelizable": True}  # noqa: RUF012  PettingZoo's
    render_mode = None
    possible_agents = ["left", "right"]  # noqa: RUF012
    aims = {"left": 1, "right": 3}  # noqa: RUF012

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(4)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.time = self.possible_agents[:], 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: Any) -> Any:
        self.time += 1
        rewards = {agent: float(actions[agent] == self.aims[agent]) for agent in self.agents}
        over = dict.fromkeys(self.agents, self.time >= 4)
        return self._seen(), rewards, over, dict.fromkeys(self.agents, False), {agent: {} for agent in self.agents}

    def _seen(self) -> Any:
        return {agent: np.array([1.0, self.time / 4], np.float32) for agent in self.agents}


def test_agents_of_a_parallel_environment_learn_from_rewards_at_the_end_of_the_cycle() -> None:
    """Tianshou gives its environments' agents a mask of ones."""
    torch.manual_seed(0)
    seen = spaces.Dict({"obs": Aim().observation_space("left"), "mask": spaces.MultiBinary(4)})

    def agent() -> TRPO:
        policy = make_policy(seen, spaces.Discrete(4), mask_key="mask", deterministic_eval=False)
        return TRPO(policy=policy, critic=make_critic(seen), optim=AdamOptimizerFactory(lr=1e-3), max_kl=0.1, gamma=0.5)

    algorithm, collector = training(lambda: parallel_to_aec(Aim()), [agent(), agent()], n_envs=4, size=64)
    for _ in range(12):
        step(algorithm, collector)
    obs = Batch(obs=np.array([[1.0, 0.0]], np.float32), mask=np.ones((1, 4), bool))
    for name, aim in Aim.aims.items():
        with torch.no_grad():
            dist = algorithm.get_algorithm(name).policy(Batch(obs=obs, info={})).dist
        assert float(dist.probs[0, aim]) > 0.8
