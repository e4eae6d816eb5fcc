"""skrl's TRPO as a side."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import gymnasium as gym
import torch
from skrl.agents.torch import trpo
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from torch import Tensor, nn
from torch.distributions import Distribution

from updates.peer import PeerRollout, copy_linears, linears, restore_moments
from updates.start import Start
from updates.training import CRITIC_STEPS, LEARNING_RATE, N_ENVS

__all__ = ["SkrlSide"]

Distribution.set_default_validate_args(True)  # the import of skrl has switched the checks off for everyone


def _perceptron(layers: list[nn.Linear]) -> nn.Sequential:
    """Return a copy of linear layers, with tanh between them."""
    parts = [(copy.deepcopy(layer), nn.Tanh()) for layer in layers]
    return nn.Sequential(*list(itertools.chain(*parts))[:-1])


class _Policy(GaussianMixin, Model):
    def __init__(self, spaces: dict[str, gym.Space[Any]], start: Start) -> None:
        Model.__init__(self, **spaces, device="cpu")
        GaussianMixin.__init__(self)
        self.net = _perceptron(linears(start.networks["policy"]))
        self.log_std = nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: dict[str, Tensor], role: str = "") -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean, and the logarithm of the standard deviation."""
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class _Critic(DeterministicMixin, Model):
    def __init__(self, spaces: dict[str, gym.Space[Any]], start: Start) -> None:
        Model.__init__(self, **spaces, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = _perceptron(linears(start.networks["critic"]))

    def compute(self, inputs: dict[str, Tensor], role: str = "") -> tuple[Tensor, dict[str, Tensor]]:
        """Return the value."""
        return self.net(inputs["observations"]), {}


class SkrlSide:
    """`update()` of skrl's TRPO, with full-batch critic steps, and without its clipping of their gradients.

    :param start: networks of linear layers with tanh between them.
    """

    validates = False

    def __init__(self, start: Start) -> None:
        self._start = start
        samples = len(start.rollout)
        spaces = {"observation_space": start.env.observation_space, "action_space": start.env.action_space}
        self._agent = trpo.TRPO(
            models={"policy": _Policy(spaces, start), "value": _Critic(spaces, start)},
            # Its default draws the rollout with replacement.
            memory=RandomMemory(memory_size=samples // N_ENVS, num_envs=N_ENVS, device="cpu", replacement=False),
            **spaces,
            device="cpu",
            cfg={
                "rollouts": samples // N_ENVS,
                "learning_epochs": CRITIC_STEPS,
                "mini_batches": 1,
                "learning_rate": LEARNING_RATE,
                "grad_norm_clip": 0.0,
                "experiment": {"write_interval": 0, "checkpoint_interval": 0},
            },
        )
        self._agent.init()
        self._agent.enable_models_training_mode(True)
        rollout = PeerRollout.of(start, self._agent.cfg.discount_factor)
        self._agent._current_next_observations = torch.as_tensor(rollout.last_obs)
        for t in range(len(rollout.obs)):
            self._agent.memory.add_samples(
                observations=torch.as_tensor(rollout.obs[t]),
                actions=torch.as_tensor(rollout.act[t]),
                rewards=torch.as_tensor(rollout.rewards[t]).unsqueeze(1),
                terminated=torch.as_tensor(rollout.ends[t]).unsqueeze(1),
                truncated=torch.zeros(N_ENVS, 1, dtype=torch.bool),
                log_prob=rollout.log_probs[t].unsqueeze(1),
                values=rollout.values[t].unsqueeze(1),
            )

    def reset(self) -> None:
        """See `Side`."""
        networks = self._start.networks
        copy_linears(linears(networks["policy"]), linears(self._agent.policy))
        copy_linears(linears(networks["critic"]), linears(self._agent.value))
        with torch.no_grad():
            self._agent.policy.log_std.copy_(networks["policy"].actor.sigma.log_std)
        restore_moments(self._start, self._agent.value_optimizer, linears(self._agent.value))

    def update(self) -> None:
        """See `Side`."""
        self._agent.update(timestep=0, timesteps=1)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """See `Side`."""
        policy, critic = (copy.deepcopy(self._start.networks[name]) for name in ("policy", "critic"))
        copy_linears(linears(self._agent.policy), linears(policy))
        copy_linears(linears(self._agent.value), linears(critic))
        with torch.no_grad():
            policy.actor.sigma.log_std.copy_(self._agent.policy.log_std)
        return policy, critic

    def products(self) -> float:
        """See `Side`."""
        return float(self._agent.cfg.conjugate_gradient_steps)
