"""Policies of every kind with parameters that tell states apart, saved as a training saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from space_tasks import Random
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from torch import nn

from trpo_ts import TRPO
from trpo_ts.checkpoints import save_checkpoint
from trpo_ts.critics import make_critic
from trpo_ts.envs import FlattenAction
from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.policies import make_policy, make_recurrent_policy

__all__ = ["CASES", "NORMALISED", "normalised_envs", "policy_of", "saved"]

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([3.0, 5.0], np.float32))
MASKED = spaces.Dict(observation=VECTOR, action_mask=spaces.MultiBinary(5))
DICT = spaces.Dict(
    camera=spaces.Box(0, 255, (8, 8, 3), dtype=np.uint8),
    inner=spaces.Dict(mode=spaces.Discrete(3, start=1), bits=spaces.MultiBinary(2)),
    position=VECTOR,
)
STRUCTURED = spaces.Dict(
    aim=spaces.Box(-1.0, 3.0, (2,)), free=spaces.Box(-np.inf, np.inf, (1,)), gear=spaces.Discrete(3, start=2)
)

CASES: dict[str, Callable[[], ProbabilisticActorPolicy]] = {
    "gaussian": lambda: make_policy(VECTOR, BOX),
    "squashed, relu": lambda: make_policy(
        VECTOR, BOX, distribution="squashed_gaussian", std="state_dependent", activation=nn.ReLU, layer_norm=True
    ),
    "beta": lambda: make_policy(VECTOR, BOX, distribution="beta"),
    "gsde": lambda: make_policy(VECTOR, BOX, distribution="gsde"),
    "discrete": lambda: make_policy(VECTOR, spaces.Discrete(4, start=-1)),
    "multi-discrete": lambda: make_policy(spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 5, 3])),
    "multi-binary": lambda: make_policy(spaces.Discrete(3), spaces.MultiBinary(3)),
    "masked": lambda: make_policy(MASKED, spaces.MultiDiscrete([2, 3]), mask_key="action_mask"),
    "image": lambda: make_policy(spaces.Box(0, 255, (12, 12, 3), dtype=np.uint8), BOX),
    "dict": lambda: make_policy(DICT, BOX),
    "structured": lambda: make_policy(VECTOR, FlatAction(STRUCTURED)),
    "gru": lambda: make_recurrent_policy(VECTOR, BOX, cell="gru", hidden_size=16),
    "lstm, dict": lambda: make_recurrent_policy(DICT, spaces.Discrete(3), cell="lstm", hidden_size=16),
    "gru, masked": lambda: make_recurrent_policy(MASKED, spaces.Discrete(5), mask_key="action_mask"),
}
NORMALISED = "gaussian"
"""The case that is also tried with normalised observations."""


def policy_of(case: str) -> ProbabilisticActorPolicy:
    """Return a policy whose actions differ much from state to state."""
    torch.manual_seed(0)
    policy = CASES[case]()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "log_std" not in name:
                inputs = parameter[0].numel() if parameter.ndim > 1 else 4
                parameter.add_(torch.randn_like(parameter) * inputs**-0.5)
    return policy


def normalised_envs(policy: ProbabilisticActorPolicy) -> VectorEnvNormObs:
    """Return environments with statistics whose means are large beside their deviations."""
    space = policy.action_space

    def make() -> Any:
        if isinstance(space, FlatAction):
            return FlattenAction(Random(policy.observation_space, space.structure))
        return Random(policy.observation_space, space)

    envs = VectorEnvNormObs(DummyVectorEnv([make]))
    rows = np.random.default_rng(1).normal([100.0, -3.0, 0.0], [0.5, 2.0, 1.0], (500, 3))
    envs.obs_rms.update(rows)
    return envs


def saved(path: Path, policy: ProbabilisticActorPolicy, envs: Any = None) -> Path:
    """Write a checkpoint of TRPO with the policy."""
    critic = make_critic(policy.observation_space)
    algorithm = TRPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-3))
    return save_checkpoint(path, algorithm=algorithm, envs=envs)
