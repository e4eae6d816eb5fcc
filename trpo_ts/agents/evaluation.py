"""Episodes that an agent plays, and what they brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.env import BaseVectorEnv, DummyVectorEnv, VectorEnvNormObs, VectorEnvWrapper

from trpo_ts.agents.acting_agent import ActingAgent
from trpo_ts.agents.player import Player
from trpo_ts.collectors import as_vector_env
from trpo_ts.collectors.observation_rows import observations_of, with_rows
from trpo_ts.envs.tasks import with_flat_spaces
from trpo_ts.policies.gsde import StateDependentExploration
from trpo_ts.runtime import preserved_generators
from trpo_ts.training.job_config import check_seed
from trpo_ts.training.task_environments import environment_seeds, environments_of_task
from trpo_ts.validation.parameter_values import check_bool, check_integer

__all__ = ["Evaluation", "check_spaces", "evaluate_agent", "forget_noise"]

_MOST_ENVS = 10
"""How many environments are played side by side."""


@dataclass(frozen=True)
class Evaluation:
    """What the episodes of an evaluation brought.

    :param mean: the mean return, undiscounted.
    :param std: the standard deviation of the returns over the episodes.
    :param returns: the return of each episode, in the order in which they ended.
    :param lengths: the environment steps of each episode.
    """

    mean: float
    std: float
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, returns: Sequence[float], lengths: Sequence[int]) -> Self:
        """Return the evaluation of episodes."""
        numbers = tuple(map(float, returns))
        return cls(float(np.mean(numbers)), float(np.std(numbers)), numbers, tuple(map(int, lengths)))


def evaluate_agent(agent: ActingAgent, episodes: int, seed: int, *, env: Any, deterministic: bool) -> Evaluation:
    """Play episodes; see :meth:`trpo_ts.agents.Agent.evaluate`."""
    check_integer("episodes", episodes, 1)
    check_seed("seed", seed)
    check_bool("deterministic", deterministic)
    if env is None:
        seeds = environment_seeds(seed, 0, min(episodes, _MOST_ENVS))
        envs = environments_of_task(agent.known_task(), seeds)
    else:
        envs = _given(agent, env)
        envs.seed(environment_seeds(seed, 0, len(envs)))
    forget_noise(agent)
    try:
        with preserved_generators():
            torch.manual_seed(seed)
            return _played(agent.new_player(), envs, episodes, bool(deterministic))
    finally:
        forget_noise(agent)
        if env is None:
            envs.close()


def _played(player: Player, envs: BaseVectorEnv, episodes: int, deterministic: bool) -> Evaluation:
    """Play episodes in environments side by side; each that begins is played to its end."""
    running = np.arange(min(len(envs), episodes))
    begun = len(running)
    obs = observations_of(envs.reset(running)[0])
    returns, lengths = np.zeros(begun), np.zeros(begun, int)
    ended: list[tuple[float, int]] = []
    while len(running):
        # Those that are done stay in the batch with their last observations: so each keeps its row of the memory.
        actions = player.act(obs, len(returns), deterministic=deterministic)
        next_obs, rewards, terminated, truncated, _ = envs.step(actions[running], running)
        obs = with_rows(obs, running, observations_of(next_obs))
        returns[running] += rewards
        lengths[running] += 1
        done = running[np.asarray(terminated | truncated, bool)]
        ended += [(returns[i], lengths[i]) for i in done]
        again, over = np.split(done, [episodes - begun])
        running = np.setdiff1d(running, over)
        if len(again):
            begun += len(again)
            returns[again], lengths[again] = 0.0, 0
            obs = with_rows(obs, again, observations_of(envs.reset(again)[0]))
            player.reset(np.isin(np.arange(len(returns)), again))
    return Evaluation.of(*zip(*ended, strict=True))


def forget_noise(agent: ActingAgent) -> None:
    """Let gSDE draw new noise, so that what was played before changes nothing."""
    for module in agent.policy.modules():
        if isinstance(module, StateDependentExploration):
            module.reset_noise()


def _given(agent: ActingAgent, env: Any) -> BaseVectorEnv:
    """Return the user's environment as a vector of environments with flat spaces.

    :raises ValueError: for another object, normalised observations, and other spaces than the agent's.
    """
    if isinstance(env, gym.Env):
        flat = with_flat_spaces(env)
        check_spaces(agent, flat)
        return DummyVectorEnv([lambda: flat])
    envs = as_vector_env(env)
    if not isinstance(envs, BaseVectorEnv):
        raise ValueError(
            f"env must be an environment of gymnasium's, or a vector of environments, got {_name(env)}; "
            "pass env=gymnasium.make(...)"
        )
    layer: Any = envs
    while isinstance(layer, VectorEnvWrapper):
        if isinstance(layer, VectorEnvNormObs):
            raise ValueError(
                "env must give observations as they are, got environments with VectorEnvNormObs around them: the agent "
                "normalises by the statistics of its training; pass the environments without it"
            )
        layer = layer.venv
    return envs


def check_spaces(agent: ActingAgent, env: gym.Env[Any, Any]) -> None:
    """Check that an environment has the agent's spaces, up to the bounds of numbers.

    :param env: the environment, its spaces flat.
    :raises ValueError: otherwise, naming both.
    """
    wanted = {"observation_space": agent.observation_space, "action_space": agent.policy.action_space}
    for name, space in wanted.items():
        given = getattr(env, name)
        if _form(given) != _form(space):
            raise ValueError(
                f"env must have the {name} {space} of the agent, got {given}; pass an environment of its task"
            )


def _form(space: gym.Space[Any]) -> Any:
    """Return what of a space the networks depend on."""
    if isinstance(space, spaces.Dict):
        return {key: _form(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return int(space.n), int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.tolist(), space.start.tolist()
    return type(space).__name__, space.shape


def _name(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
