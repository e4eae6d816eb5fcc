"""Where every side of a comparison begins: the same networks, moments of the optimiser, and rollout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import torch
from tianshou.utils import RunningMeanStd
from torch import nn

from trpo_ts import TRPO
from updates.synthetic import SyntheticRollout, SyntheticSpaces
from updates.training import Training, networks, parameters

__all__ = ["Start", "synthetic_start", "trained_start"]


_MANY = 10**12
"""Returns that count as seen: one rollout moves their deviation no more, and all sides have targets in one unit."""


@dataclass(frozen=True)
class Start:
    """What every side begins with.

    :param env: its spaces.
    :param networks: `policy` and `critic`; sides take copies.
    :param state: the state of an algorithm of Tianshou with these networks, with the moments of the critic's Adam.
    :param return_statistics: the running statistics that `return_scaling` divides by.
    :param rollout: the transitions of the update, as a buffer.
    :param held_out: others of the same policy.
    :param parameters: further parameters of an algorithm of Tianshou.
    """

    env: gym.Env[Any, Any]
    networks: dict[str, Any]
    state: dict[str, Any]
    return_statistics: RunningMeanStd
    rollout: Any
    held_out: Any = None
    parameters: dict[str, Any] = field(default_factory=parameters)

    def algorithm(self, build: Callable[..., Any], **extra: Any) -> Any:
        """Return an algorithm of Tianshou that begins here."""
        algorithm = build(**copy.deepcopy(self.networks), **self.parameters, **extra)
        self.restore(algorithm)
        return algorithm

    def restore(self, algorithm: Any) -> None:
        """Bring an algorithm back to here."""
        algorithm.load_state_dict(copy.deepcopy(self.state))
        algorithm.ret_rms = copy.deepcopy(self.return_statistics)

    def moments(self) -> list[dict[str, torch.Tensor]]:
        """Return what Adam knows of each parameter of the critic: empty before its first step."""
        algorithm = self.algorithm(TRPO)
        return [algorithm.optim._optim.state.get(p, {}) for p in algorithm.critic.parameters()]


def _start(env: gym.Env[Any, Any], algorithm: TRPO, rollout: Any, held_out: Any, **extra: Any) -> Start:
    state = {key: value for key, value in algorithm.state_dict().items() if key != "_extra_state"}
    modules: dict[str, nn.Module] = {"policy": algorithm.policy, "critic": algorithm.critic}
    statistics = copy.deepcopy(algorithm.ret_rms)
    statistics.count = _MANY
    return Start(
        env,
        copy.deepcopy(modules),
        copy.deepcopy(state),
        statistics,
        rollout,
        held_out,
        {**parameters(), **extra},
    )


def trained_start(
    make_env: Callable[[], gym.Env[Any, Any]],
    make_networks: Callable[[gym.Env[Any, Any]], dict[str, Any]],
    samples: int,
    updates: int,
    *,
    normalise: bool = True,
) -> Start:
    """Train for so many updates, and return a start with two rollouts of the policy that has come of it."""
    training = Training(make_env, make_networks, samples, normalise=normalise)
    for _ in range(updates):
        training.update(training.collect(samples))
    return _start(make_env(), training.algorithm, training.collect(samples), training.collect(samples))


def synthetic_start(samples: int, hidden: tuple[int, ...], device: str = "cpu") -> Start:
    """Return a start with networks at their initialisation and a rollout of random numbers."""
    torch.manual_seed(0)
    env = SyntheticSpaces()
    modules = {name: module.to(device) for name, module in networks(env, hidden).items()}
    rollout = SyntheticRollout(samples)
    return _start(env, TRPO(**modules, **parameters()), rollout, None, max_batchsize=4096)
