"""skrl's TRPO as a side."""

from __future__ import annotations

import copy
from typing import Any

import torch
from skrl.agents.torch import trpo
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from torch import Tensor, nn
from torch.distributions import Distribution

from updates.peer import Peer, linears, peer_rollout
from updates.start import CRITIC_STEPS, LEARNING_RATE, N_ENVS, Start

Distribution.set_default_validate_args(True)  # the import of skrl has switched the checks off for everyone


class _Perceptron(Model):
    """Copies of a network's linear layers, with tanh between them."""

    def __init__(self, spaces: dict[str, Any], network: nn.Module) -> None:
        Model.__init__(self, **spaces, device="cpu")
        parts = [part for layer in linears(network) for part in (copy.deepcopy(layer), nn.Tanh())]
        self.net = nn.Sequential(*parts[:-1])

    def compute(self, inputs: dict[str, Tensor], role: str = "") -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean with the logarithm of the standard deviation, or the value."""
        return self.net(inputs["observations"]), dict(self.named_parameters(recurse=False))


class _Policy(GaussianMixin, _Perceptron):
    def __init__(self, spaces: dict[str, Any], network: nn.Module) -> None:
        _Perceptron.__init__(self, spaces, network)
        GaussianMixin.__init__(self)
        self.log_std = nn.Parameter(torch.zeros(self.num_actions))


class _Critic(DeterministicMixin, _Perceptron):
    def __init__(self, spaces: dict[str, Any], network: nn.Module) -> None:
        _Perceptron.__init__(self, spaces, network)
        DeterministicMixin.__init__(self)


class PeerSide(Peer):
    """`update()` of skrl's TRPO, with full-batch critic steps, and without its clipping of their gradients."""

    validates = False

    def __init__(self, start: Start) -> None:
        steps, theirs = len(start.rollout) // N_ENVS, start.networks["policy"]
        spaces = {"observation_space": theirs.observation_space, "action_space": theirs.action_space}
        policy, critic = _Policy(spaces, theirs), _Critic(spaces, start.networks["critic"])
        self._agent = trpo.TRPO(
            models={"policy": policy, "value": critic},
            # Its default draws the rollout with replacement.
            memory=RandomMemory(memory_size=steps, num_envs=N_ENVS, device="cpu", replacement=False),
            **spaces,
            device="cpu",
            cfg={
                "rollouts": steps,
                "learning_epochs": CRITIC_STEPS,
                "mini_batches": 1,
                "learning_rate": LEARNING_RATE,
                "grad_norm_clip": 0.0,
                "conjugate_gradient_steps": int(self.products),
                "experiment": {"write_interval": 0, "checkpoint_interval": 0},
            },
        )
        self._agent.init()
        self._agent.enable_models_training_mode(True)
        super().__init__(start, linears(policy), linears(critic), policy.log_std, self._agent.value_optimizer)
        rollout = peer_rollout(start, self._agent.cfg.discount_factor)
        self._agent._current_next_observations = rollout.next_obs[-1]
        for t in range(steps):
            self._agent.memory.add_samples(
                observations=rollout.obs[t],
                actions=rollout.act[t],
                rewards=rollout.rewards[t].unsqueeze(1),
                terminated=rollout.ends[t].unsqueeze(1),
                truncated=torch.zeros(N_ENVS, 1, dtype=torch.bool),
                log_prob=rollout.log_probs[t].unsqueeze(1),
                values=rollout.values[t].unsqueeze(1),
            )

    def update(self) -> None:
        """See `Side`."""
        self._agent.update(timestep=0, timesteps=1)
