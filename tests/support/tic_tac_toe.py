"""Tic-tac-toe of two agents in turn, as PettingZoo's, which needs pygame for its pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import AECEnv
from tianshou.data import Batch

LINES = np.array([(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)])

OBSERVATIONS = spaces.Dict({"obs": spaces.Box(0, 1, (3, 3, 2), np.int8), "mask": spaces.MultiBinary(9)})
"""What Tianshou's ``PettingZooEnv`` makes of the observations, beside the agent's name."""


class TicTacToe(AECEnv):
    """Who has three in a row wins 1 and the other one loses 1."""

    metadata = {"name": "tic_tac_toe", "is_parallelizable": False}  # noqa: RUF012  PettingZoo's
    render_mode = None

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["player_1", "player_2"]
        space = spaces.Dict({"observation": OBSERVATIONS["obs"], "action_mask": spaces.Box(0, 1, (9,), np.int8)})
        self.observation_spaces = dict.fromkeys(self.possible_agents, space)
        self.action_spaces = {agent: spaces.Discrete(9) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def observe(self, agent: str) -> Any:
        number = self.possible_agents.index(agent) + 1
        board = np.stack([self.board == number, self.board == 3 - number], axis=-1)
        return {
            "observation": board.reshape(3, 3, 2).astype(np.int8),
            "action_mask": (self.board == 0).astype(np.int8) * (agent == self.agent_selection),
        }

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.board = np.zeros(9, dtype=int)
        self.agents = self.possible_agents[:]
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: Any = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def step(self, action: Any) -> None:
        me = self.agent_selection
        other = self.possible_agents[1 - self.possible_agents.index(me)]
        assert self.board[action] == 0
        self.board[action] = self.possible_agents.index(me) + 1
        won = bool((self.board[LINES] == self.board[action]).all(axis=1).any())
        self.rewards = {me: int(won), other: -int(won)}
        self.terminations = dict.fromkeys(self.agents, won or bool((self.board != 0).all()))
        self.agent_selection = other

    def close(self) -> None:
        pass


def score_against_chance(policy: Any, player: int, games: int = 300) -> float:
    """Return the mean result of a player, 0 or 1, against random moves."""
    rng = np.random.default_rng(0)
    total = 0.0
    for _ in range(games):
        env = TicTacToe()
        env.reset()
        while not any(env.terminations.values()):
            seen = env.observe(env.agent_selection)
            if env.possible_agents.index(env.agent_selection) == player:
                obs = Batch(obs=seen["observation"][None], mask=seen["action_mask"][None])
                with torch.no_grad():
                    env.step(int(policy(Batch(obs=obs, info={})).act[0]))
            else:
                env.step(int(rng.choice(np.flatnonzero(seen["action_mask"]))))
        total += env.rewards[env.possible_agents[player]]
    return total / games
