"""Rollouts in sequences, collected by Tianshou's own collector, and what they are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from rollouts import BOX, DISCRETE, N_ACTIONS, OBS_DIM, OBSERVATIONS, Actor, Mlp, categorical, gaussian
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from trpo_ts.critics import RecurrentCritic
from trpo_ts.policies import RecurrentActor
from trpo_ts.recurrent.cells import make_cell
from trpo_ts.recurrent.recurrent_trunk import RecurrentTrunk
from trpo_ts.rollout import Rollout
from trpo_ts.runtime import evaluation_mode, without_validation
from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.tianshou_adapter import rollout_of

WIDTH = 5


class RandomEpisodes(gym.Env[np.ndarray, Any]):
    """Noise for observations, episodes of random length, half of them truncated; rewards by the action."""

    observation_space = OBSERVATIONS

    def __init__(self, seed: int, discrete: bool, mean_length: float = 6.0) -> None:
        self.action_space = DISCRETE if discrete else BOX
        self.rng = np.random.default_rng(seed)
        self.end_probability = 1.0 / mean_length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.rng.standard_normal(OBS_DIM).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        obs = self.rng.standard_normal(OBS_DIM).astype(np.float32)
        ends = bool(self.rng.random() < self.end_probability)
        terminated = ends and bool(self.rng.random() < 0.5)
        return obs, float(np.sum(action) + obs[0]), terminated, ends and not terminated, {}


class Encoder(nn.Module):
    """Tianshou's kind of network, in any dtype."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body, self.width = Mlp((OBS_DIM, width, width)), width

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        return self.body(obs), state

    def get_output_dim(self) -> int:
        return self.width


def make_sequence_policy(
    cell: str, discrete: bool, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> ProbabilisticActorPolicy:
    trunk = RecurrentTrunk(Encoder(), make_cell(cell, 4, WIDTH))
    with torch.no_grad():
        for p in trunk.parameters():
            p.add_(0.3 * torch.randn_like(p)).mul_(scale)
    head = Actor(Mlp((WIDTH, 4, N_ACTIONS if discrete else BOX.shape[0])), None if discrete else -0.5)
    return ProbabilisticActorPolicy(
        actor=RecurrentActor(trunk, head).to(dtype),
        dist_fn=categorical if discrete else gaussian,
        action_space=DISCRETE if discrete else BOX,
        observation_space=OBSERVATIONS,
        action_scaling=False,
        action_bound_method=None,
    )


def make_sequence_critic(cell: str, dtype: torch.dtype = torch.float64) -> RecurrentCritic:
    trunk = RecurrentTrunk(Encoder(), make_cell(cell, 4, WIDTH))
    return RecurrentCritic(trunk, Mlp((WIDTH, 4, 1))).to(dtype)


@dataclass
class Acting:
    """A collector, and what its policy's distributions said of the actions when it acted."""

    policy: ProbabilisticActorPolicy
    collector: Collector
    buffer: VectorReplayBuffer
    logp: list[np.ndarray]

    def collect(self, length: int) -> Tensor:
        """Collect so many steps of each environment; return the behaviour's log-probabilities in the buffer's order."""
        self.buffer.reset(keep_statistics=True)
        return self.collect_more(length)

    def collect_more(self, length: int) -> Tensor:
        self.logp.clear()
        with policy_within_training_step(self.policy):
            self.collector.collect(n_step=length * self.collector.env_num)
        return torch.as_tensor(np.stack(self.logp).T.reshape(-1))


def acting(
    policy: ProbabilisticActorPolicy,
    n_envs: int = 4,
    size: int = 64,
    normalised: bool = False,
    mean_length: float = 6.0,
    seed: int = 0,
) -> Acting:
    discrete = isinstance(policy.action_space, spaces.Discrete)
    envs: Any = DummyVectorEnv(
        [lambda i=i: RandomEpisodes(1000 * seed + i, discrete, mean_length) for i in range(n_envs)]
    )
    if normalised:
        envs = VectorEnvNormObs(envs)
    logp: list[np.ndarray] = []

    def note(action_batch: Any, rollout_batch: Any) -> None:
        dist = action_batch.dist
        logp.append(dist.log_prob(torch.as_tensor(action_batch.act)).detach().numpy())

    buffer = VectorReplayBuffer(n_envs * size, n_envs)
    collector = Collector(policy, envs, buffer, on_step_hook=note)
    collector.reset()
    return Acting(policy, collector, buffer, logp)


def rollout_from(algorithm: Any, buffer: VectorReplayBuffer) -> Rollout:
    """Return the rollout as an update sees it."""
    batch, indices = buffer.sample(0)
    return rollout_of(algorithm._preprocess_batch(batch, buffer, indices))


def problem_and_start(algorithm: Any, rollout: Rollout) -> tuple[PolicyProblem, Point]:
    """Return the problem that an update solves, and the point of the behaviour policy."""
    with evaluation_mode(algorithm.policy), without_validation():
        return algorithm._problem(algorithm._policy_function(rollout), rollout)


def logp_old(algorithm: Any, buffer: VectorReplayBuffer) -> Tensor:
    """Return the log-probabilities of the actions that an update computes."""
    return problem_and_start(algorithm, rollout_from(algorithm, buffer))[0].logp_old


def step_by_step(trunk: RecurrentTrunk, obs: Tensor, first_state: Tensor, begins: np.ndarray) -> Tensor:
    """Return the states after each row, from PyTorch's own cells, one row at a time.

    :param first_state: the states from which rows are taken up where ``begins`` is true, in their order.
    """
    cell = trunk.cell
    weights = (cell.input.weight, cell.recurrent.weight, cell.input.bias, cell.recurrent.bias)
    features = trunk.encoder(obs)[0]
    initial, states = iter(first_state), []
    for n in range(len(obs)):
        state = next(initial) if begins[n] else states[-1]
        if cell.state_size == cell.hidden_size:
            states.append(torch._VF.gru_cell(features[n : n + 1], state[None], *weights)[0])  # type: ignore[attr-defined]
        else:
            h_c = state[None].chunk(2, dim=1)
            states.append(torch.cat(torch._VF.lstm_cell(features[n : n + 1], h_c, *weights), dim=1)[0])  # type: ignore[attr-defined]
    return torch.stack(states)


def vector(module: nn.Module) -> Tensor:
    return parameters_to_vector(module.parameters()).detach().clone()


CELLS = ("gru", "lstm")


class StepByStep(nn.Module):
    """The policy's outputs along a rollout by :func:`step_by_step`; its parameters have the names of the original."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor, first_state: Tensor, begins: np.ndarray) -> Any:
        actor = self.policy.actor
        states = step_by_step(actor.trunk, obs, first_state, begins)
        return actor.head(states[:, : actor.trunk.output_dim])[0]
