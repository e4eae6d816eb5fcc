"""TRPO in one file, in a training loop of your own: gymnasium, torch and ``trpo_ts.solver``, no Tianshou.

python examples/own_loop.py --env-id CartPole-v1
python examples/own_loop.py --env-id Pendulum-v1 --total-steps 100000 --gamma 0.9 --reward-scale 0.1
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from trpo_ts.solver import trust_region_update


@dataclass
class Args:
    """The settings; each is an option of the command line."""

    env_id: str = "CartPole-v1"
    seed: int = 1
    total_steps: int = 60_000  # environment steps
    num_envs: int = 8
    num_steps: int = 256  # steps of each environment per update
    gamma: float = 0.99
    gae_lambda: float = 0.95
    max_kl: float = 0.02  # nats
    reward_scale: float = 1.0  # rewards are multiplied by it, so that values are of the order of 1 to 100
    critic_lr: float = 3e-3
    critic_epochs: int = 10
    critic_batch: int = 256


def mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Return a 64-64 tanh network with orthogonal weights."""
    layers = [nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
    for layer, own_gain in zip(layers[::2], (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, own_gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class Policy(nn.Module):
    """Observations to action distributions: categorical for Discrete actions, Gaussian for a Box scaled to [-1, 1]."""

    def __init__(self, obs_size: int, act_space: gym.Space) -> None:
        super().__init__()
        self.discrete = isinstance(act_space, gym.spaces.Discrete)
        outputs = int(act_space.n) if self.discrete else act_space.shape[0]
        self.net = mlp(obs_size, outputs, gain=0.01)
        self.log_std = nn.Parameter(torch.full((outputs,), -0.5), requires_grad=not self.discrete)

    def forward(self, obs: Tensor) -> Distribution:
        """Return one joint distribution for each row."""
        out = self.net(obs)
        return Categorical(logits=out) if self.discrete else Independent(Normal(out, self.log_std.exp()), 1)


def make_env(env_id: str) -> gym.Env:
    """Return the environment; a Box of actions is scaled to [-1, 1] and cut off there."""
    env = gym.make(env_id)
    if isinstance(env.action_space, gym.spaces.Box):
        env = gym.wrappers.ClipAction(gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1)))
    return env


class Collector:
    """Steps the environments with a policy and keeps the returns of finished episodes."""

    def __init__(self, envs: SyncVectorEnv, seed: int) -> None:
        self.envs, (self.obs, _) = envs, envs.reset(seed=seed)
        self.running, self.returns = np.zeros(envs.num_envs), [0.0]

    @torch.no_grad()
    def collect(self, policy: Policy, num_steps: int) -> tuple[Tensor, ...]:
        """Return obs, act, rew, next obs, terminated and ended, each of shape ``(T, N, ...)``."""
        rows = []
        for _ in range(num_steps):
            obs = torch.as_tensor(self.obs, dtype=torch.float32)
            act = policy(obs).sample()
            self.obs, rew, terminated, truncated, infos = self.envs.step(act.numpy())
            ended, next_obs = terminated | truncated, self.obs.copy()
            for i in np.flatnonzero(ended):  # self.obs begins the next episode there
                next_obs[i] = infos["final_obs"][i]
            rows.append((obs, act, *map(torch.as_tensor, (np.float32(rew), np.float32(next_obs), terminated, ended))))
            self.running += rew
            self.returns += self.running[ended].tolist()
            self.running[ended] = 0.0
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))


def estimate(args: Args, rew: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, ended: Tensor) -> Tensor:
    """Return generalised advantages: nothing follows a termination, the critic says what follows a truncation."""
    delta = args.reward_scale * rew + args.gamma * next_values * ~terminated - values
    adv, following = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        adv[t] = following = delta[t] + args.gamma * args.gae_lambda * following * ~ended[t]
    return adv


def fit(args: Args, critic: nn.Module, optimizer: torch.optim.Optimizer, obs: Tensor, targets: Tensor) -> None:
    """Fit the critic to the targets by epochs of minibatches."""
    for _ in range(args.critic_epochs):
        for rows in torch.randperm(len(targets)).split(args.critic_batch):
            optimizer.zero_grad()
            (critic(obs[rows]).flatten() - targets[rows]).square().mean().backward()
            optimizer.step()


def train(args: Args) -> Policy:
    """Train, print a line per update, and return the policy."""
    torch.manual_seed(args.seed)
    envs = SyncVectorEnv([lambda: make_env(args.env_id)] * args.num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    obs_size = envs.single_observation_space.shape[0]
    policy, critic = Policy(obs_size, envs.single_action_space), mlp(obs_size, 1, gain=1.0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=args.critic_lr)
    collector, per_update = Collector(envs, args.seed), args.num_steps * args.num_envs
    for update in range(1, args.total_steps // per_update + 1):
        obs, act, rew, next_obs, terminated, ended = collector.collect(policy, args.num_steps)
        with torch.no_grad():
            values, next_values = critic(obs).squeeze(-1), critic(next_obs).squeeze(-1)
        adv = estimate(args, rew, values, next_values, terminated, ended)
        normalised = (adv - adv.mean()) / adv.std()
        step = trust_region_update(
            policy, obs.flatten(0, 1), act.flatten(0, 1), normalised.flatten(), max_kl=args.max_kl
        )
        fit(args, critic, optimizer, obs.flatten(0, 1), (adv + values).flatten())
        print(
            f"{update * per_update:9,d} steps   return {np.mean(collector.returns[-20:]):8.1f}   KL {step.kl:.4f}   "
            f"surrogate +{step.improvement:.4f}   {step.outcome.name.lower()}"
        )
    return policy


@torch.no_grad()
def evaluate(policy: Policy, env_id: str, episodes: int = 20) -> float:
    """Return the mean return of episodes with the most probable action."""
    env, total = make_env(env_id), 0.0
    for episode in range(episodes):
        (obs, _), done = env.reset(seed=10_000 + episode), False
        while not done:
            act = policy(torch.as_tensor(obs, dtype=torch.float32)[None]).mode[0].numpy()
            obs, rew, terminated, truncated, _ = env.step(act)
            total, done = total + float(rew), terminated or truncated
    return total / episodes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Args):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    settings = Args(**vars(parser.parse_args()))
    torch.set_num_threads(1)  # networks of this size are faster on one
    print(f"20 episodes with the most probable action: return {evaluate(train(settings), settings.env_id):.1f}")
