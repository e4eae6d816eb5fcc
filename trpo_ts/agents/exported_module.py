"""A policy and all around it as one module of tensors, which torch can export."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.utils import RunningMeanStd
from torch import Tensor, nn

from trpo_ts.agents.acting_agent import ActingAgent
from trpo_ts.agents.exported_actions import exported_actions
from trpo_ts.policies.beta import beta_distribution
from trpo_ts.policies.categorical import JointCategorical
from trpo_ts.policies.flat_action_policy import FlatDistribution
from trpo_ts.policies.gaussian import diagonal_gaussian
from trpo_ts.policies.gsde import StateDependentExploration
from trpo_ts.policies.recurrent_policy import RecurrentActor
from trpo_ts.uncompiled import original

__all__ = ["ExportedModule"]


class ExportedModule(nn.Module):
    """From observations as the environment gives them to the environment's most probable actions.

    Inputs and outputs are dicts of tensors; :meth:`trpo_ts.agents.Agent.export` names them.

    :param agent: the agent; its networks are copied to the CPU.
    :raises ValueError: for a policy whose way of acting is its own.
    """

    def __init__(self, agent: ActingAgent) -> None:
        super().__init__()
        if type(agent.policy).forward is not ProbabilisticActorPolicy.forward:
            raise ValueError(f"its class {type(agent.policy).__name__} acts by a forward pass of its own")
        self.policy = copy.deepcopy(agent.policy).cpu().requires_grad_(False)
        self.policy.actor = original(self.policy.actor)
        self.actions = exported_actions(self.policy)
        self.normalisation = nn.ModuleList(_Normalised(statistics) for statistics in agent.normalisation.layers)
        self._observation_space = agent.observation_space
        self.state_size: int | None = None
        if isinstance(self.policy.actor, RecurrentActor):
            self.state_size = self.policy.actor.trunk.cell.state_size

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the actions for N observations, and the state afterwards."""
        obs = _nested(self._observation_space, "obs", inputs)
        for layer in self.normalisation:
            obs = layer(obs)
        state = None if self.state_size is None else {"after": inputs["state"]}
        output, state = self.policy.actor(obs, state=state)
        if state is not None and self.state_size is None:
            raise ValueError("its memory is not that of make_recurrent_policy")
        outputs: dict[str, Tensor] = self.actions(_mode(self.policy.dist_fn, output))
        return outputs if state is None else {**outputs, "next_state": state["after"]}


class _Normalised(nn.Module):
    """Observations in units of the standard deviation, in double precision as NumPy computes them.

    The mean may be large beside the deviation.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, statistics: RunningMeanStd) -> None:
        super().__init__()
        self._most = statistics.clip_max
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float64))
        deviation = np.sqrt(statistics.var + statistics.eps)
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float64))

    def forward(self, obs: Tensor) -> Tensor:
        scaled = (obs.double() - self.mean) / self.deviation
        return scaled.clamp(-self._most, self._most) if self._most else scaled


def _nested(space: gym.Space[Any], name: str, inputs: Mapping[str, Tensor]) -> Any:
    """Return the observations of a space from its parts by name."""
    if isinstance(space, spaces.Dict):
        return {key: _nested(part, f"{name}.{key}", inputs) for key, part in space.spaces.items()}
    return inputs[name]


def _mode(dist_fn: Any, output: Any) -> Tensor:
    """Return the most probable actions; torch's ``mode`` of some families branches on values, which no graph can."""
    mode: Tensor
    if dist_fn is diagonal_gaussian:
        mode = output[0]
    elif dist_fn is beta_distribution:
        alpha, beta = output
        mode = (alpha - 1.0) / (alpha + beta - 2.0)
    elif isinstance(dist_fn, StateDependentExploration):
        mode = dist_fn.mean(output)
    elif isinstance(dist_fn, JointCategorical):
        mode = dist_fn.by_component(output).argmax(-1)
    elif isinstance(dist_fn, FlatDistribution):
        mode, _, logits = output.tensor_split([dist_fn.reals, 2 * dist_fn.reals], dim=-1)
        if dist_fn.categorical is not None:
            mode = torch.cat([mode, dist_fn.categorical.by_component(logits).argmax(-1).to(mode)], dim=-1)
    else:
        mode = dist_fn(output).mode
    return mode
