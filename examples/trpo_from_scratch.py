# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Trust Region Policy Optimization from scratch
#
# This notebook builds TRPO in about 150 lines of plain PyTorch. Each part stands beside the function of
# [`trpo_ts`](../README.md) that does the same, and an assertion checks that both agree. At the end the program learns
# to stop a mass at a point, in a few seconds on one core.
#
# You need to know PyTorch and the idea of a policy gradient. You need not know TRPO. You can read everything without
# running it: the outputs are stored in the file.
#
# 1. [The problem](#1.-The-problem): why a step needs a length, and how that gives the natural gradient
# 2. [The task](#2.-The-task): a point mass on a line
# 3. [Policy and value network](#3.-Policy-and-value-network): a Gaussian, and its KL divergence in closed form
# 4. [Rollouts and advantages](#4.-Rollouts-and-advantages)
# 5. [The step](#5.-The-step): gradient, Fisher products, conjugate gradient, line search
# 6. [Learning](#6.-Learning)
# 7. [Inside an update](#7.-Inside-an-update): what a preconditioner gains, what the line search tries
# 8. [Stable-Baselines](#8.-Stable-Baselines): its hyper-parameters, and the same settings here
#
# "TRPO" means [arXiv:1502.05477](https://arxiv.org/abs/1502.05477), "GAE" means
# [arXiv:1506.02438](https://arxiv.org/abs/1506.02438). Letters are those of the
# [table of symbols](../docs/layout.md#the-symbols).

# %%
# Installs the package where it is missing, as in Colab. This is the only cell that needs a network.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("trpo_ts") is None:
    SOURCE = ".." if Path("../pyproject.toml").exists() else "trpo-ts"  # or the address of the repository
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import plotly.graph_objects as go
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from tianshou.data import Batch, VectorReplayBuffer
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.func import functional_call

from trpo_ts import KFAC, solver
from trpo_ts.advantages import generalised_advantages
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.diagnostics import (
    PolicySnapshot,
    RolloutRecord,
    UpdateRecord,
    learning_figure,
    policy_snapshot_figure,
    rollout_figure,
)
from trpo_ts.diagnostics.style import BLUE, GREEN, GREY, ORANGE, VERMILLION, Panel, line, stack_panels
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.envs import POINT_MASS_BEST_RETURN, POINT_MASS_HORIZON
from trpo_ts.solver.divergence import kl_terms

torch.set_default_dtype(torch.float64)  # so that two ways to one number agree to ten digits
torch.set_num_threads(1)  # networks of this size are faster on one
SEED = 0
torch.manual_seed(SEED)


def check(name: str, ours: Tensor | float, package: Tensor | float, tolerance: float = 1e-8) -> None:
    """Compare a result of this notebook with the package's, and print the relative difference."""
    ours, package = torch.as_tensor(ours), torch.as_tensor(package)
    assert ours.shape == package.shape, f"{name}: shapes {tuple(ours.shape)} and {tuple(package.shape)}"
    difference = float((ours - package).norm() / package.norm())
    print(f"{name:26s} relative difference {difference:.0e}  (allowed: {tolerance:.0e})")
    assert difference <= tolerance, f"{name}: the two differ by {difference:.1e}"


# %% [markdown]
# ## 1. The problem
#
# A policy $\pi_\theta(a \mid s)$ gives the probability of action $a$ in state $s$. Run it, and you get a *rollout*: $N$
# rows $(s_n, a_n)$, each with an *advantage* $A_n$, which says how much better the action was than the average one.
#
# **The objective.** How good would another policy be? Weight each advantage by how much more likely the other policy
# makes the action. This is the *surrogate objective* (TRPO, equation 14):
#
# $$L(\theta) = \frac1N \sum_{n=1}^N \frac{\pi_\theta(a_n \mid s_n)}{\pi_{\mathrm{old}}(a_n \mid s_n)} A_n$$
#
# At $\theta_{\mathrm{old}}$, the parameters that the rollout was made with, its gradient $g = \nabla_\theta L$ is the
# ordinary policy gradient.
#
# **Why a step needs a length.** The rollout says nothing about states that the old policy did not visit. So $L$ can be
# trusted near the old policy only. A learning rate does not measure "near": the same change of the parameters can
# leave one policy as it is and ruin another. TRPO measures the change of the policy itself, by the KL divergence,
# averaged over the visited states:
#
# $$\bar D(\theta) = \frac1N \sum_{n=1}^N D_{\mathrm{KL}}\left(\pi_{\mathrm{old}}(\cdot \mid s_n) \Vert \pi_\theta(\cdot \mid s_n)\right), \qquad D_{\mathrm{KL}}(p \Vert q) = \mathbb E_{a \sim p} \log \frac{p(a)}{q(a)}$$
#
# **The constrained problem** of one update, with $\delta$ = `max_kl` (TRPO, equations 12 and 14):
#
# $$\max_\theta L(\theta) \quad \text{subject to} \quad \bar D(\theta) \le \delta$$
#
# The policies with $\bar D(\theta) \le \delta$ are the *trust region*.
#
# ### From the constrained problem to the natural gradient
#
# **Step 1: simple models.** Write $\Delta\theta = \theta - \theta_{\mathrm{old}}$. Take $L$ to first order. $\bar D$ has
# no first order: it is zero at $\theta_{\mathrm{old}}$, and that is its minimum. Take it to second order:
#
# $$L(\theta) \approx L(\theta_{\mathrm{old}}) + g^\top \Delta\theta, \qquad \bar D(\theta) \approx \tfrac12 \Delta\theta^\top F \Delta\theta, \qquad F = \nabla^2_\theta \bar D(\theta_{\mathrm{old}})$$
#
# **Step 2: what $F$ is.** Only $\log \pi_\theta$ in the divergence depends on $\theta$. Differentiate twice under the
# expectation. $\mathbb E \nabla^2 \pi_\theta / \pi_\theta = 0$, since probabilities always sum to one, and the Fisher
# information matrix remains:
#
# $$F = -\frac1N \sum_n \mathbb E_{a \sim \pi_{\mathrm{old}}} \nabla^2_\theta \log \pi_\theta(a \mid s_n) = \frac1N \sum_n \mathbb E_{a \sim \pi_{\mathrm{old}}} \left[\nabla_\theta \log \pi_\theta(a \mid s_n) \nabla_\theta \log \pi_\theta(a \mid s_n)^\top\right]$$
#
# It measures how strongly each direction in parameter space changes the policy.
#
# **Step 3: solve.** The model problem is linear with one quadratic constraint. With a multiplier $\nu > 0$:
#
# $$\nabla_{\Delta\theta} \left[ g^\top \Delta\theta - \nu \left(\tfrac12 \Delta\theta^\top F \Delta\theta - \delta\right) \right] = g - \nu F \Delta\theta = 0 \qquad\Longrightarrow\qquad \Delta\theta = \tfrac1\nu F^{-1} g$$
#
# The direction $F^{-1} g$ is the *natural gradient*. A linear objective is largest on the edge of the region, so the
# constraint is an equality, which gives $\nu$:
#
# $$\tfrac12 \tfrac1{\nu^2} g^\top F^{-1} g = \delta \qquad\Longrightarrow\qquad \Delta\theta^\star = \sqrt{\frac{2\delta}{g^\top F^{-1} g}} F^{-1} g$$
#
# **What is left to do** is numerical. $F$ has as many rows as the policy has parameters, so nobody stores it. Two tools
# are enough: products $v \mapsto F v$, and conjugate gradient, which solves $F x = g$ with such products alone. The
# models are only models, so a line search checks the true $L$ and the true $\bar D$ before a step is taken.

# %% [markdown]
# ## 2. The task
#
# A mass on a line shall come to rest at $x = 0$. The action is an acceleration in $[-1, 1]$ m/s². A step takes
# $dt$ = 0.05 s and costs $x^2 + 0.1 v^2 + 0.001 a^2$. The episode ends with a bonus of 5 at the goal, and after 150
# steps at the latest. The environment needs no download: it is part of the package ([page](../docs/point_mass.md)).
#
# Random actions first, to see what an untrained policy is up against.


# %%
def play(act: Callable[[np.ndarray], np.ndarray], seed: int) -> RolloutRecord:
    """Return one episode of the point mass with the actions that ``act`` chooses from observations."""
    env = gym.make("PointMass1D-v0", disable_env_checker=True)
    obs, _ = env.reset(seed=seed)
    observations, actions, rewards, ended = [obs], [], [], False
    while not ended:
        actions.append(act(obs))
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        observations.append(obs)
        rewards.append(float(reward))
        ended = terminated or truncated
    return RolloutRecord(observations, actions, rewards, ("position x (m)", "velocity v (m/s)"), ("action a (m/s²)",))


random = np.random.default_rng(SEED)
random_episode = play(lambda obs: random.uniform(-1.0, 1.0, size=1), seed=1)
rollout_figure(random_episode, title=f"Random actions: return {sum(random_episode.rewards):.0f}").show()

# %% [markdown]
# The mass drifts wherever the noise pushes it. The best possible controller, found by dynamic programming, has a mean
# return of about -22.


# %% [markdown]
# ## 3. Policy and value network
#
# The policy is a Gaussian with a network for the mean and one standard deviation for all states:
# $\pi_\theta(\cdot \mid s) = \mathcal N\left(\mu_\theta(s), \sigma^2\right)$. The standard deviation is stored as
# $\log \sigma$, so that every value of the parameter is valid. `Independent(..., 1)` says that the components of an
# action are *one* action: log-probabilities and divergences are summed over them.


# %%
def mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Return a 32-32 tanh network; a small gain makes its first outputs small."""
    layers = [nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, outputs)]
    for layer, own_gain in zip(layers[::2], (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, own_gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class GaussianPolicy(nn.Module):
    """Observations, shape ``(N, 2)``, to a Gaussian over actions, batch shape ``(N,)``."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = mlp(2, 1, gain=0.01)
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, obs: Tensor) -> Independent:
        """Return one distribution for each row."""
        return Independent(Normal(self.mean(obs), self.log_std.exp()), 1)


policy = GaussianPolicy()
critic = mlp(2, 1, gain=1.0)  # the value network V(s)
print(sum(p.numel() for p in policy.parameters()), "parameters of the policy")


# %% [markdown]
# The divergence of two Gaussians has a closed form. For each component of the action:
#
# $$D_{\mathrm{KL}}\left(\mathcal N(\mu_1, \sigma_1^2) \Vert \mathcal N(\mu_2, \sigma_2^2)\right) = \log\frac{\sigma_2}{\sigma_1} + \frac{\sigma_1^2 + (\mu_1 - \mu_2)^2}{2 \sigma_2^2} - \frac12$$
#
# The unit is the nat. Moving the mean by one standard deviation costs half a nat. With a small $\sigma$ the same change
# of the mean costs more.


# %%
def gaussian_kl(old: Independent, new: Independent) -> Tensor:
    """Return KL(old || new) for each row, shape ``(N,)``, in nats."""
    ratio = old.stddev / new.stddev
    distance = (old.mean - new.mean) / new.stddev
    return (-ratio.log() + 0.5 * (ratio.square() + distance.square()) - 0.5).sum(dim=-1)


obs_to_try = torch.randn(100, 2)
with torch.no_grad():
    old, new = policy(obs_to_try), Independent(Normal(0.3 * obs_to_try[:, :1], 0.8), 1)
    check("KL divergence", gaussian_kl(old, new), kl_terms(old, new), tolerance=1e-12)


# %% [markdown]
# ## 4. Rollouts and advantages
#
# `Collector` steps 32 point masses side by side. `Rollout` holds arrays of shape `(T, N, ...)`: `T` steps of `N`
# environments. Two flags differ: `terminated` means that the task is over and no reward follows; `ended` also holds
# where the time limit or the rollout cuts the episode, and there the critic says what would have followed.


# %%
@dataclass
class Rollout:
    """What one update learns from; all of shape ``(T, N, ...)``."""

    obs: Tensor
    act: Tensor
    rew: Tensor
    next_obs: Tensor
    terminated: Tensor
    ended: Tensor


def make_env() -> gym.Env:
    """Return one point mass with its time limit."""
    return gym.make("PointMass1D-v0", disable_env_checker=True)


class Collector:
    """Steps the environments with a policy, and keeps the returns of episodes that end."""

    def __init__(self, num_envs: int, seed: int) -> None:
        self.envs = SyncVectorEnv([make_env] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        self.obs, _ = self.envs.reset(seed=seed)
        self.running = np.zeros(num_envs)

    @torch.no_grad()
    def collect(self, policy: nn.Module, num_steps: int) -> tuple[Rollout, list[float]]:
        """Return a rollout, and the returns of the episodes that ended in it."""
        rows, returns = [], []
        for _ in range(num_steps):
            obs = torch.as_tensor(self.obs, dtype=torch.float64)
            act = policy(obs).sample()
            self.obs, rew, terminated, truncated, infos = self.envs.step(act.numpy())
            ended, next_obs = terminated | truncated, self.obs.astype(np.float64)
            for i in np.flatnonzero(ended):  # self.obs is the start of the next episode there
                next_obs[i] = infos["final_obs"][i]
            self.running += rew
            returns += self.running[ended].tolist()
            self.running[ended] = 0.0
            rows.append((obs, act, *map(torch.as_tensor, (rew, next_obs, terminated, ended))))
        rollout = Rollout(*(torch.stack(column) for column in zip(*rows, strict=True)))
        rollout.ended[-1] = True
        return rollout, returns


# %% [markdown]
# **Generalised advantage estimation** sums temporal-difference errors with decaying weights (GAE, equation 16):
#
# $$\delta^V_t = r_t + \gamma (1 - d_t) V(s_t^\prime) - V(s_t), \qquad A_t = \delta^V_t + \gamma \lambda (1 - e_t) A_{t+1}$$
#
# Here $d_t$ is 1 where the task terminated, and $e_t$ where a row is the last one of its episode in the rollout.
# $\lambda = 0$ trusts the critic fully; $\lambda = 1$ sums the rewards as they came, which is noisy. The critic's
# targets are the matching returns, $R_t = A_t + V(s_t)$.

# %%
GAMMA, GAE_LAMBDA = 0.99, 0.97
REWARD_SCALE = 0.1  # keeps the critic's targets in a range that a learning rate of 0.01 can follow


def estimate_advantages(rollout: Rollout, values: Tensor, next_values: Tensor) -> Tensor:
    """Return generalised advantages, shape ``(T, N)``, in units of the scaled reward."""
    delta = REWARD_SCALE * rollout.rew + GAMMA * next_values * ~rollout.terminated - values
    adv, following = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        adv[t] = following = delta[t] + GAMMA * GAE_LAMBDA * following * ~rollout.ended[t]
    return adv


def fit_critic(critic: nn.Module, optimizer: torch.optim.Optimizer, obs: Tensor, targets: Tensor) -> None:
    """Fit the critic to the targets: eight passes of Adam over minibatches."""
    for _ in range(8):
        for rows in torch.randperm(len(targets)).split(512):
            optimizer.zero_grad()
            (critic(obs[rows]).squeeze(-1) - targets[rows]).square().mean().backward()
            optimizer.step()


# %% [markdown]
# The package's function reads Tianshou's replay buffer, so the check writes the rollout into one.


# %%
def package_advantages(rollout: Rollout, values: Tensor, next_values: Tensor) -> Tensor:
    """Return the advantages that the package estimates from a buffer with the same rollout, shape ``(T, N)``."""
    num_steps, num_envs = rollout.rew.shape
    buffer = VectorReplayBuffer(num_steps * num_envs, num_envs)
    for t in range(num_steps):
        terminated, ended = rollout.terminated[t].numpy(), rollout.ended[t].numpy()
        step = {"obs": rollout.obs[t].numpy(), "act": rollout.act[t].numpy(), "obs_next": rollout.next_obs[t].numpy()}
        flags = {"terminated": terminated, "truncated": ended & ~terminated, "done": ended}
        buffer.add(Batch(**step, **flags, rew=REWARD_SCALE * rollout.rew[t].numpy(), info=Batch()))
    batch, indices = buffer.sample(0)  # everything, one environment after the other
    flat, next_flat = values.T.flatten().numpy(), next_values.T.flatten().numpy()
    adv = generalised_advantages(
        batch, buffer, indices, values=flat, next_values=next_flat, gamma=GAMMA, gae_lambda=GAE_LAMBDA
    )
    return torch.as_tensor(adv, dtype=torch.float64).reshape(num_envs, num_steps).T


rollout, returns = Collector(num_envs=32, seed=SEED).collect(policy, num_steps=POINT_MASS_HORIZON)
with torch.no_grad():
    values, next_values = critic(rollout.obs).squeeze(-1), critic(rollout.next_obs).squeeze(-1)
adv = estimate_advantages(rollout, values, next_values)
check("generalised advantages", adv, package_advantages(rollout, values, next_values), tolerance=1e-10)
print(f"{rollout.rew.numel():,} rows, {len(returns)} episodes ended, mean return {np.mean(returns):.0f}")

# %% [markdown]
# For the step, advantages are centred and scaled: the direction does not depend on their scale, and without an offset
# the gradient has less noise.

# %%
obs, act = rollout.obs.flatten(0, 1), rollout.act.flatten(0, 1)
adv = ((adv - adv.mean()) / adv.std()).flatten()


# %% [markdown]
# ## 5. The step
#
# ### The problem as functions of one vector
#
# All parameters together are one vector $\theta$. `functional_call` runs the policy with other parameters than its own,
# so candidates need not be written into the network. `Problem` is then section 1 in code: $L(\theta)$ and
# $\bar D(\theta)$.


# %%
def flat_parameters(module: nn.Module) -> Tensor:
    """Return all parameters as one vector, shape ``(P,)``."""
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def write_parameters(module: nn.Module, theta: Tensor) -> None:
    """Write a vector back into the parameters."""
    nn.utils.vector_to_parameters(theta, module.parameters())


def policy_at(policy: nn.Module, theta: Tensor, obs: Tensor) -> Independent:
    """Return the action distributions at other parameters; differentiable in ``theta``."""
    parameters, position = {}, 0
    for name, p in policy.named_parameters():
        parameters[name] = theta[position : position + p.numel()].view_as(p)
        position += p.numel()
    return functional_call(policy, parameters, (obs,))


class Problem:
    """Surrogate objective and mean KL divergence of a rollout, as functions of theta."""

    def __init__(self, policy: nn.Module, obs: Tensor, act: Tensor, adv: Tensor) -> None:
        self.policy, self.obs, self.act, self.adv = policy, obs, act, adv
        self.theta_old = flat_parameters(policy)
        with torch.no_grad():
            self.old = policy(obs)
            self.logp_old = self.old.log_prob(act)

    def surrogate(self, theta: Tensor) -> Tensor:
        """Return L(theta)."""
        ratio = (policy_at(self.policy, theta, self.obs).log_prob(self.act) - self.logp_old).exp()
        return (ratio * self.adv).mean()

    def mean_kl(self, theta: Tensor) -> Tensor:
        """Return the mean divergence from the old policy, in nats."""
        return gaussian_kl(self.old, policy_at(self.policy, theta, self.obs)).mean()


# %% [markdown]
# The package has the same two objects: `RowFunction`, the policy as a function of $\theta$ and of rows, and
# `PolicyProblem`. Both are compared at a random point near the old policy.

# %%
problem = Problem(policy, obs, act, adv)
theta_old = problem.theta_old
package_problem, start = solver.PolicyProblem.of_rollout(
    RowFunction(policy, lambda rows: (obs[rows],), len(obs)), act=act, adv=adv
)

nearby = theta_old + 0.05 * torch.randn_like(theta_old)
evaluation = package_problem.evaluate(nearby)
check("surrogate objective", problem.surrogate(nearby), evaluation.objective)
check("mean KL divergence", problem.mean_kl(nearby), evaluation.kl)


# %% [markdown]
# ### Policy gradient and Fisher products
#
# The gradient is one backward pass. A product with $F$, the Hessian of $\bar D$, takes two more: differentiate
# $\bar D$, take the inner product with $v$, differentiate again.
#
# $$g = \nabla_\theta L(\theta), \qquad F v = \nabla_\theta \left( \left(\nabla_\theta \bar D(\theta)\right)^\top v \right)$$
#
# At $\theta_{\mathrm{old}}$ the first derivative of $\bar D$ is zero. That is no error: only the second one counts.


# %%
def policy_gradient(problem: Problem, theta: Tensor) -> Tensor:
    """Return the gradient of the surrogate objective, shape ``(P,)``."""
    theta = theta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.surrogate(theta), theta)
    return gradient


def fisher_operator(problem: Problem, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function v -> F v. The first derivative is computed once, for all products."""
    theta = theta.detach().requires_grad_()
    (kl_gradient,) = torch.autograd.grad(problem.mean_kl(theta), theta, create_graph=True)

    def product(v: Tensor) -> Tensor:
        (hessian_v,) = torch.autograd.grad(kl_gradient, theta, v, retain_graph=True)
        return hessian_v

    return product


# %% [markdown]
# The package computes $F v$ in another way. The network maps a state to the parameters $z$ of the action distribution,
# with Jacobian $J$. The Fisher matrix $M$ of the distribution itself is known in closed form, so
#
# $$F = \frac1N \sum_n J_n^\top M(z_n) J_n, \qquad z = (\mu, \sigma), \qquad M = \mathrm{diag}\left(\frac1{\sigma^2}, \frac2{\sigma^2}\right) \text{ for a Gaussian}$$
#
# which needs no second derivative of a divergence. The result must be the same.

# %%
g = policy_gradient(problem, theta_old)
fisher = fisher_operator(problem, theta_old)
linearisation = package_problem.linearise(start)
check("policy gradient", g, linearisation.gradient)
for k in range(3):
    v = torch.randn_like(theta_old)
    check(f"Fisher product {k + 1}", fisher(v), linearisation.fisher(v))


# %% [markdown]
# ### Conjugate gradient
#
# Few rows and many parameters leave $F$ without full rank. Therefore a multiple of the identity is added, the *damping*
# $c$ = `cg_damping`: solve $C x = g$ with $C = F + c I$. Damping keeps steps short in directions that the rollout
# hardly measures.
#
# Conjugate gradient starts at $x = 0$ with the residual $r = g$. Each iteration takes one product $C p$, walks along the
# direction $p$ to the optimum, and makes the next direction from the new residual:
#
# $$\tau_k = \frac{r_k^\top r_k}{p_k^\top C p_k}, \qquad x_{k+1} = x_k + \tau_k p_k, \qquad r_{k+1} = r_k - \tau_k C p_k, \qquad p_{k+1} = r_{k+1} + \frac{r_{k+1}^\top r_{k+1}}{r_k^\top r_k} p_k$$


# %%
def conjugate_gradient(operator: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return x, which approximately solves C x = b, and the residual b - C x."""
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squared_norm = residual.dot(residual)
    for _ in range(iterations):
        if squared_norm == 0.0:
            break
        product = operator(direction)
        length = squared_norm / direction.dot(product)
        x = x + length * direction
        residual = residual - length * product
        previous, squared_norm = squared_norm, residual.dot(residual)
        direction = residual + squared_norm / previous * direction
    return x, residual


CG_DAMPING, CG_ITERS = 0.1, 10


def damped_fisher(v: Tensor) -> Tensor:
    """Return C v = F v + c v."""
    return fisher(v) + CG_DAMPING * v


x, residual = conjugate_gradient(damped_fisher, g, CG_ITERS)
solution = solver.conjugate_gradient(
    solver.damped(linearisation.fisher, CG_DAMPING), g, max_iterations=CG_ITERS, tolerance=0.0
)
check("search direction x", x, solution.x, tolerance=1e-6)
print(f"|g - C x| / |g| = {float(residual.norm() / g.norm()):.1e} after {CG_ITERS} products")

# %% [markdown]
# The tolerance is larger again. Conjugate gradient amplifies rounding errors; that is its nature, and it does no harm.
#
# ### Step size
#
# The longest step along $x$ within the quadratic model is the *full step* $\alpha x$. Its curvature $x^\top C x$ costs no
# further product, because the residual is known:
#
# $$\alpha = \sqrt{\frac{2\delta}{x^\top C x}}, \qquad x^\top C x = x^\top (g - r)$$

# %%
MAX_KL = 0.02
curvature = float(x.dot(g - residual))
alpha = (2.0 * MAX_KL / curvature) ** 0.5
check("curvature", curvature, solution.curvature, tolerance=1e-6)
check("step size alpha", alpha, solver.full_step_size(MAX_KL, solution.curvature), tolerance=1e-6)


# %% [markdown]
# ### Line search
#
# The full step is right for the models, not for the policy. The line search tries $\kappa^j \alpha x$ for
# $j = 0, 1, \dots$ with $\kappa$ = `backtrack_coeff`, and takes the first candidate that keeps the *true* bound and
# improves the *true* objective. If none does, the policy stays as it is.


# %%
def line_search(
    problem: Problem, full_step: Tensor, max_kl: float, backtrack_coeff: float = 0.8, max_backtracks: int = 10
) -> tuple[float, int]:
    """Return the accepted fraction of the full step, 0.0 if there is none, and the number of shortenings."""
    with torch.no_grad():
        objective_old = problem.surrogate(problem.theta_old)
        for backtracks in range(max_backtracks):
            fraction = backtrack_coeff**backtracks
            candidate = problem.theta_old + fraction * full_step
            if problem.mean_kl(candidate) <= max_kl and problem.surrogate(candidate) > objective_old:
                return fraction, backtracks
    return 0.0, max_backtracks - 1


full_step = alpha * x
for factor in (1.0, 3.0):  # the second one is much too long, so that the search has something to do
    fraction, backtracks = line_search(problem, factor * full_step, MAX_KL)
    package_search = solver.backtracking_line_search(
        lambda share, factor=factor: package_problem.evaluate(theta_old + share * factor * full_step),
        start.evaluation,
        max_kl=MAX_KL,
        backtrack_coeff=0.8,
        max_backtracks=10,
    )
    assert backtracks == package_search.backtracks
    check(f"fraction of {factor:.0f} x full step", fraction, package_search.fraction)


# %% [markdown]
# ### All together
#
# This is TRPO's policy step (TRPO, appendix C).


# %%
@dataclass
class Step:
    """What a step did, for the records; the names are those of the package's statistics."""

    kl: float
    fraction: float
    backtracks: int
    improvement: float
    expected_improvement: float


def trpo_step(
    policy: nn.Module,
    obs: Tensor,
    act: Tensor,
    adv: Tensor,
    *,
    max_kl: float,
    cg_iters: int = 10,
    cg_damping: float = 0.1,
) -> Step:
    """Move the policy's parameters by one TRPO step."""
    problem = Problem(policy, obs, act, adv)
    theta = problem.theta_old
    g, fisher = policy_gradient(problem, theta), fisher_operator(problem, theta)
    x, residual = conjugate_gradient(lambda v: fisher(v) + cg_damping * v, g, cg_iters)
    full_step = (2.0 * max_kl / x.dot(g - residual)).sqrt() * x
    fraction, backtracks = line_search(problem, full_step, max_kl)
    end = theta + fraction * full_step
    write_parameters(policy, end)
    with torch.no_grad():
        improvement = float(problem.surrogate(end) - problem.surrogate(theta))
        return Step(float(problem.mean_kl(end)), fraction, backtracks, improvement, float(g.dot(end - theta)))


ours, package = copy.deepcopy(policy), copy.deepcopy(policy)
step = trpo_step(ours, obs, act, adv, max_kl=MAX_KL)
package_step = solver.trust_region_update(
    package, obs, act, adv, max_kl=MAX_KL, preconditioner=None, cg_tolerance=0.0
)  # without a preconditioner and a tolerance it takes the paper's ten products
check("change of parameters", flat_parameters(ours) - theta_old, flat_parameters(package) - theta_old, tolerance=1e-6)
check("KL of the step", step.kl, package_step.kl, tolerance=1e-5)
print(f"KL {step.kl:.4f} of {MAX_KL}, surrogate +{step.improvement:.3f}, fraction {step.fraction:.2f}")

# %% [markdown]
# ### The trust region, drawn
#
# A network has too many parameters to draw. A controller with two gains has not: $\mu(s) = \tanh(k_x x + k_v v)$ with a
# fixed $\sigma$. The same functions work on it. Colours show the surrogate objective, the lines the trust region of
# its true divergence and of the quadratic model. The arrows are the step along the natural gradient, and the step along
# the plain gradient to the edge of the same region.


# %%
class TwoGains(nn.Module):
    """A policy with two parameters, the gains of position and velocity."""

    def __init__(self, gain_x: float, gain_v: float) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.tensor([gain_x, gain_v]))

    def forward(self, obs: Tensor) -> Independent:
        """Return one distribution for each row."""
        return Independent(Normal(torch.tanh(obs @ self.gains)[:, None], 0.5), 1)


def advantages_of(rollout: Rollout) -> Tensor:
    """Return normalised advantages with a critic that is fitted to the rollout first, flat."""
    critic = mlp(2, 1, gain=1.0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(3):
        with torch.no_grad():
            values, next_values = critic(rollout.obs).squeeze(-1), critic(rollout.next_obs).squeeze(-1)
        adv = estimate_advantages(rollout, values, next_values)
        fit_critic(critic, optimizer, rollout.obs.flatten(0, 1), (adv + values).flatten())
    return ((adv - adv.mean()) / adv.std()).flatten()


two_gains = TwoGains(-0.4, -0.1)
their_rollout, _ = Collector(num_envs=32, seed=SEED).collect(two_gains, num_steps=POINT_MASS_HORIZON)
plane = Problem(
    two_gains, their_rollout.obs.flatten(0, 1), their_rollout.act.flatten(0, 1), advantages_of(their_rollout)
)
centre = plane.theta_old
plane_gradient, plane_fisher = policy_gradient(plane, centre), fisher_operator(plane, centre)
F = torch.stack([plane_fisher(unit) for unit in torch.eye(2)])  # two products give the whole matrix


def to_the_edge(direction: Tensor, max_kl: float) -> Tensor:
    """Return the step along a direction to the edge of the quadratic model's region."""
    return (2.0 * max_kl / direction.dot(F @ direction)).sqrt() * direction


REGION = 0.05  # nats; larger than usual, so that the difference between truth and model can be seen
natural, plain = to_the_edge(torch.linalg.solve(F, plane_gradient), REGION), to_the_edge(plane_gradient, REGION)
for name, delta in (("natural gradient", natural), ("plain gradient", plain)):
    with torch.no_grad():
        gain = plane.surrogate(centre + delta) - plane.surrogate(centre)
        print(f"{name:17s} surrogate +{gain:.4f}, true KL {plane.mean_kl(centre + delta):.4f} nats")


# %%
def over_plane(value: Callable[[Tensor], Tensor], xs: Tensor, ys: Tensor) -> np.ndarray:
    """Return a function of the two gains on a grid, in single precision: it is only drawn."""
    with torch.no_grad():
        return np.array([[float(value(torch.stack([x, y]))) for x in xs] for y in ys], dtype=np.float32)


def edge_of_model(centre: Tensor, fisher: Tensor, max_kl: float) -> Tensor:
    """Return points, shape ``(2, 121)``, where the quadratic model of the divergence is ``max_kl``."""
    angles = torch.linspace(0.0, 2.0 * torch.pi, 121)
    circle = torch.stack([angles.cos(), angles.sin()])
    return centre[:, None] + (2.0 * max_kl) ** 0.5 * torch.linalg.solve(torch.linalg.cholesky(fisher).T, circle)


def trust_region_figure(problem: Problem, natural: Tensor, plain: Tensor, fisher: Tensor, max_kl: float) -> go.Figure:
    """Draw surrogate, true region, model's region and both steps over the plane of the two parameters."""
    centre = problem.theta_old
    ellipse = edge_of_model(centre, fisher, max_kl)
    reach = 1.35 * (ellipse - centre[:, None]).abs().amax(dim=1)
    xs, ys = (torch.linspace(float(c - r), float(c + r), 41) for c, r in zip(centre, reach, strict=True))
    axes = {"x": xs.numpy(), "y": ys.numpy()}
    surrogate = go.Contour(
        z=over_plane(problem.surrogate, xs, ys),
        colorscale="Blues",
        contours={"showlines": False},
        colorbar={"title": {"text": "surrogate L (std of the advantage)", "side": "right"}},
        **axes,
    )
    region = go.Contour(
        z=over_plane(problem.mean_kl, xs, ys),
        contours={"start": max_kl, "end": max_kl, "coloring": "none"},
        line={"width": 3, "color": VERMILLION},
        name=f"true KL = {max_kl:g} nats",
        showlegend=True,
        showscale=False,
        **axes,
    )
    figure = go.Figure([surrogate, region])
    figure.add_trace(line(*ellipse.tolist(), mode="lines", color=VERMILLION, dash="dash", name="quadratic model of it"))
    for name, delta, color in (("natural gradient", natural, GREEN), ("plain gradient", plain, ORANGE)):
        ends = torch.stack([centre, centre + delta])
        figure.add_trace(line(*ends.T.tolist(), mode="lines+markers", color=color, name=name).update(line={"width": 4}))
    figure.update_layout(
        template="plotly_white",
        title={"text": "One step in the plane of two parameters", "x": 0.02, "y": 0.97, "font": {"size": 17}},
        font={"size": 13, "color": "#24292F"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        width=760,
        height=660,
        margin={"t": 110},
    )
    figure.update_xaxes(title="gain of the position (1/m)", constrain="domain")
    return figure.update_yaxes(title="gain of the velocity (s/m)", scaleanchor="x", constrain="domain")


trust_region_figure(plane, natural, plain, F, REGION).show()

# %% [markdown]
# * The region is long where a gain changes the policy little, and short where it changes it much. A ball around the
#   old parameters, which is what a learning rate amounts to, has the wrong shape.
# * The plain gradient is perpendicular to the contours of the objective, and meets the edge of the region early. The
#   natural gradient leans towards the direction in which the region is long, and gains more for the same divergence.
# * The true region and the ellipse differ. The full step ends on the ellipse, so the line search is needed.
#
# Here the two are not far apart. In networks they are: lengths of the region differ by orders of magnitude.

# %% [markdown]
# ## 6. Learning
#
# The loop is short: collect, estimate advantages, take the step, fit the critic. The order matters: advantages come from
# the critic *before* it is fitted to the same rollout. `UpdateRecord` keeps what the figures need.

# %%
NUM_ENVS, UPDATES, SNAPSHOT_EVERY = 32, 24, 6
POSITIONS = np.linspace(-2.0, 2.0, 81)


def snapshot(policy: nn.Module, iteration: int) -> PolicySnapshot:
    """Return the mean action at rest over the positions, as the environment receives it."""
    obs = torch.as_tensor(np.stack([POSITIONS, np.zeros_like(POSITIONS)], axis=1))
    with torch.no_grad():
        return PolicySnapshot(iteration, POSITIONS, policy(obs).mean.squeeze(-1).clamp(-1.0, 1.0).tolist())


@dataclass
class Training:
    """A trained policy and what was recorded."""

    policy: nn.Module
    records: list[UpdateRecord]
    snapshots: list[PolicySnapshot]
    halfway: tuple[nn.Module, Tensor, Tensor, Tensor]
    seconds: float


def train(take_step: Callable[..., Step | solver.PolicyStep], seed: int) -> Training:
    """Train a policy on the point mass with a function that takes the policy step."""
    torch.manual_seed(seed)
    collector, policy, critic = Collector(NUM_ENVS, seed), GaussianPolicy(), mlp(2, 1, gain=1.0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    records, snapshots, halfway, seconds = [], [snapshot(policy, 0)], None, 0.0
    for update in range(1, UPDATES + 1):
        rollout, returns = collector.collect(policy, POINT_MASS_HORIZON)
        with torch.no_grad():
            values, next_values = critic(rollout.obs).squeeze(-1), critic(rollout.next_obs).squeeze(-1)
        adv = estimate_advantages(rollout, values, next_values)
        targets, normalised = (adv + values).flatten(), ((adv - adv.mean()) / adv.std()).flatten()
        obs, act = rollout.obs.flatten(0, 1), rollout.act.flatten(0, 1)
        if update == UPDATES // 2:
            halfway = copy.deepcopy(policy), obs, act, normalised
        begin = time.process_time()
        step = take_step(policy, obs, act, normalised, max_kl=MAX_KL)
        seconds += time.process_time() - begin
        fit_critic(critic, optimizer, obs, targets)
        explained = 1.0 - float((targets - values.flatten()).var() / targets.var())
        records.append(record_of(step, update, returns, policy, explained))
        if update % SNAPSHOT_EVERY == 0:
            snapshots.append(snapshot(policy, update))
            print(
                f"update {update:2d}   return {np.mean(returns):7.1f}   KL {step.kl:.4f}   fraction {step.fraction:.2f}"
            )
    return Training(policy, records, snapshots, halfway, seconds / UPDATES)


def record_of(
    step: Step | solver.PolicyStep, update: int, returns: list[float], policy: GaussianPolicy, explained: float
) -> UpdateRecord:
    """Return the record of an update."""
    return UpdateRecord(
        iteration=update,
        env_steps=update * NUM_ENVS * POINT_MASS_HORIZON,
        episode_returns=returns,
        kl=step.kl,
        step_fraction=step.fraction,
        backtracks=step.backtracks,
        surrogate_improvement=step.improvement,
        expected_improvement=step.expected_improvement,
        explained_variance=explained,
        policy_std=float(policy.log_std.detach().exp().mean()),
    )


training = train(trpo_step, seed=SEED)

# %%
learning_figure(
    training.records, MAX_KL, POINT_MASS_BEST_RETURN, "best controller", title="TRPO from scratch on the point mass"
).show()

# %% [markdown]
# How to read it, from top to bottom:
#
# * **Return.** The line is the mean over the episodes that ended in the rollout, the band holds the middle 80 %. The
#   dashed line is the mean of the best possible controller.
# * **KL.** No update exceeds `max_kl`. It stays below, because damping takes part of the budget: the full step satisfies
#   $\frac12 \Delta\theta^\top F \Delta\theta + \frac c2 \lVert\Delta\theta\rVert^2 = \delta$.
# * **Standard deviation.** It falls as the policy becomes sure, and nobody told it to.
# * **Line search.** The fraction of the full step that was accepted; bars count the shortenings.
# * **Surrogate.** What the linear model promised, and what the step achieved. They should be close.
# * **Explained variance.** How well the critic predicts returns that it has not seen. Advantages are as good as this.
#
# The policy itself is easy to look at, since it depends on two numbers. Here is its mean action at rest ($v = 0$):

# %%
policy_snapshot_figure(
    training.snapshots,
    grid_title="position x (m), at velocity 0",
    action_title="mean action (m/s²)",
    title="The policy after 0, 6, 12, 18 and 24 updates",
).show()


# %%
@torch.no_grad()
def best_action(obs: np.ndarray) -> np.ndarray:
    """Return the mean of the trained policy, its most probable action."""
    return training.policy(torch.as_tensor(obs, dtype=torch.float64)[None]).mean[0].numpy()


trained_episode = play(best_action, seed=1)
rollout_figure(
    trained_episode, title=f"The trained policy, same start: return {sum(trained_episode.rewards):.0f}"
).show()

# %% [markdown]
# ### The package's step in the same loop
#
# `trust_region_update` takes the place of `trpo_step`; nothing else changes. Its default uses K-FAC, which the next
# section explains, and mostly needs one Fisher product instead of ten.

# %%
package_training = train(solver.trust_region_update, seed=SEED)


# %%
def comparison_figure(trainings: dict[str, Training]) -> go.Figure:
    """Draw the mean returns of several trainings."""
    traces = []
    for (name, training), color, dash in zip(trainings.items(), (BLUE, VERMILLION), ("solid", "dash"), strict=True):
        steps = [record.env_steps for record in training.records]
        means = [record.return_mean for record in training.records]
        traces.append(line(steps, means, color=color, dash=dash, name=name))
    panel = Panel("Mean return of the episodes that ended", "episode return", traces, height=260)
    return stack_panels([panel], x_title="environment steps", title="One loop, two policy steps", tickformat="~s")


comparison_figure({"from scratch: 10 products": training, "trpo_ts: K-FAC": package_training}).show()
for name, result in (("from scratch", training), ("trpo_ts", package_training)):
    last = np.mean([record.return_mean for record in result.records[-5:]])
    print(
        f"{name:13s} last five updates: mean return {last:.1f}; {1000 * result.seconds:.0f} ms of CPU time per policy step"
    )

# %% [markdown]
# The two learn alike; the difference is chance. One seed proves nothing more: the [benchmarks](../docs/benchmarks.md)
# compare over several, and measure time where it counts, on larger networks.

# %% [markdown]
# ## 7. Inside an update
#
# The rollout of an update in the middle of the training was kept. Two parts of the step deserve a closer look.
#
# ### Conjugate gradient, with and without a preconditioner
#
# The number of products that conjugate gradient needs depends on the spread of the eigenvalues of $C$. A
# *preconditioner* is a matrix $\tilde C$ close to $C$ that is cheap to invert. It replaces each residual $r$ by
# $\tilde C^{-1} r$ where directions are made. The solution stays the same, the way to it is shorter.
#
# K-FAC ([arXiv:1503.05671](https://arxiv.org/abs/1503.05671)) is such an approximation. The gradient of a layer's
# weights is $h y^\top$, with the layer's input $y$ and the derivative $h$ at its output. K-FAC takes the two for
# independent, so that the layer's block of $F$ is a Kronecker product of two small matrices:
#
# $$\tilde F_{lm} = \mathbb E\left[y_l y_m^\top\right] \otimes \mathbb E\left[h_l h_m^\top\right]$$
#
# Small damping makes the system hard, so the figure uses $c = 10^{-3}$. After each number of products, it shows the true
# residual, and the improvement that the linear model predicts for the scaled step, as a share of the best possible one.

# %%
halfway_policy, halfway_obs, halfway_act, halfway_adv = training.halfway
inside, inside_start = solver.PolicyProblem.of_rollout(
    RowFunction(halfway_policy, lambda rows: (halfway_obs[rows],), len(halfway_obs)), act=halfway_act, adv=halfway_adv
)
model = inside.linearise(inside_start)
SMALL_DAMPING = 1e-3
system = solver.damped(model.fisher, SMALL_DAMPING)
exact = solver.conjugate_gradient(system, model.gradient, max_iterations=400, tolerance=1e-10)
preconditioners = {
    "none": None,
    "K-FAC, undamped": KFAC(relative_damping=0.0),
    "K-FAC, default": KFAC(),
}


def solve_quality(preconditioner: KFAC | None, products: int) -> tuple[float, float]:
    """Return the relative residual after some products, and the share of the best predicted improvement."""
    approximation = preconditioner and preconditioner.fit(
        inside.policy_function, model.theta, fisher_metric, damping=SMALL_DAMPING
    )
    x = solver.conjugate_gradient(
        system, model.gradient, max_iterations=products, tolerance=0.0, preconditioner=approximation
    ).x
    residual = float((model.gradient - system(x)).norm() / model.gradient.norm())
    # A scaled step gains sqrt(2 delta) g.x / sqrt(x.Cx); the exact one sqrt(2 delta) sqrt(g.x).
    share = model.gradient.dot(x) / (x.dot(system(x)) * model.gradient.dot(exact.x)).sqrt()
    return residual, float(share)


def solve_figure(most_products: int) -> go.Figure:
    """Draw the quality of the solution against the products spent, for each preconditioner."""
    products, residuals, shares = list(range(1, most_products + 1)), [], []
    for (name, preconditioner), color, dash in zip(
        preconditioners.items(), (GREY, BLUE, ORANGE), ("dot", "solid", "dash"), strict=True
    ):
        quality = [solve_quality(preconditioner, count) for count in products]
        residuals.append(line(products, [q[0] for q in quality], color=color, dash=dash, name=name))
        shares.append(
            line(products, [100 * q[1] for q in quality], color=color, dash=dash, name=name, showlegend=False)
        )
    panels = [
        Panel(
            "Residual |g - Cx| / |g|", "share of |g|", residuals, 220, {"type": "log", "dtick": 1, "tickformat": ".0%"}
        ),
        Panel("Predicted improvement of the scaled step", "% of the best", shares, 180),
    ]
    return stack_panels(panels, x_title="Fisher products", title="Conjugate gradient with and without preconditioner")


solve_figure(most_products=12).show()

# %% [markdown]
# * The first products count. After one product with K-FAC the step is worth as much as after several without.
# * The residual is jagged. Conjugate gradient reduces the error in the norm of $C$, which the lower panel follows, and
#   not the residual. A step may be good while its residual is still large.
# * With many products the plain iteration catches up. Its number of products depends on the distinct large eigenvalues,
#   and this network of 1,186 parameters has few. On [larger networks](../docs/benchmarks.md#a-solve-to-equal-accuracy)
#   the difference lasts.
# * The default of the package damps K-FAC more than the system and stops after one or two products. That is on purpose:
#   the exact solution follows the noise of this one rollout ([trpo.md](../docs/trpo.md#26-conjugate-gradient)).
#
# ### The candidates of the line search
#
# With little damping and a large `max_kl` the full step goes too far. The figure follows the policy along it.

# %%
WIDE_KL = 0.1
alpha = solver.full_step_size(WIDE_KL, exact.curvature)
long_step = alpha * exact.x


def candidates(backtrack_coeff: float = 0.8, max_backtracks: int = 10) -> list[tuple[float, bool]]:
    """Return the fractions that the line search tries, up to the first accepted one."""
    tried = []
    for j in range(max_backtracks):
        fraction = backtrack_coeff**j
        there = inside.evaluate(inside.theta_old + fraction * long_step)
        accepted = there.kl <= WIDE_KL and there.objective > inside_start.evaluation.objective
        tried.append((fraction, accepted))
        if accepted:
            break
    return tried


def line_search_figure() -> go.Figure:
    """Draw divergence and improvement along the full step: truth, models and candidates."""
    fractions = np.linspace(0.0, 1.05, 43)
    start_objective = inside_start.evaluation.objective
    along = [inside.evaluate(inside.theta_old + float(f) * long_step) for f in fractions]
    slope, bend = float(model.gradient.dot(long_step)), float(long_step.dot(model.fisher(long_step)))
    kl = [
        line(fractions, [e.kl for e in along], mode="lines", color=BLUE, name="true"),
        line(fractions, 0.5 * bend * fractions**2, mode="lines", color=GREY, dash="dot", name="quadratic model"),
        line([0.0, 1.05], [WIDE_KL] * 2, mode="lines", color=VERMILLION, dash="dash", name=f"max_kl = {WIDE_KL:g}"),
    ]
    gain = [
        line(fractions, [e.objective - start_objective for e in along], mode="lines", color=BLUE, showlegend=False),
        line(fractions, slope * fractions, mode="lines", color=GREY, dash="dot", name="linear model"),
    ]
    for accepted, name, symbol, color in ((False, "rejected", "x", VERMILLION), (True, "accepted", "circle", GREEN)):
        tried = [fraction for fraction, verdict in candidates() if verdict is accepted]
        there = [inside.evaluate(inside.theta_old + fraction * long_step) for fraction in tried]
        marks = {"mode": "markers", "marker": {"symbol": symbol, "size": 11, "color": color}}
        kl.append(go.Scatter(x=tried, y=[e.kl for e in there], name=name, **marks))
        gain.append(go.Scatter(x=tried, y=[e.objective - start_objective for e in there], showlegend=False, **marks))
    panels = [
        Panel("Mean KL divergence from the old policy", "KL (nats)", kl, height=210),
        Panel("Improvement of the surrogate objective", "std of the advantage", gain, height=210),
    ]
    return stack_panels(panels, x_title="fraction of the full step", title="The candidates of the line search")


line_search_figure().show()

# %% [markdown]
# * The true divergence leaves the quadratic model, and the true improvement falls behind the linear one.
# * The first candidates exceed `max_kl` and are rejected. The first one below it is taken.
# * With `max_kl` = 0.02 the models hold over the whole step; the full step is then mostly accepted, as the training's
#   figure shows. With a preconditioner the package aims the second candidate at the bound instead of multiplying by 0.8.

# %% [markdown]
# ## 8. Stable-Baselines
#
# Two implementations are in wide use: `TRPO` of [SB3-contrib](https://github.com/Stable-Baselines-Team/stable-baselines3-contrib),
# in PyTorch, and `TRPO` of the original [Stable-Baselines](https://github.com/hill-a/stable-baselines), in TensorFlow 1
# with MPI. You train with them like this (not run here):
#
# ```python
# from sb3_contrib import TRPO
#
# model = TRPO("MlpPolicy", "Pendulum-v1", gamma=0.9, n_steps=1024, target_kl=0.01, verbose=1)
# model.learn(total_timesteps=100_000)
# ```
#
# ### SB3-contrib: what each hyper-parameter does, and its name here
#
# Defaults are those of SB3-contrib 2.9.2. $K$ is the number of components of an action.
#
# | SB3-contrib | Default | What it does | `trpo_ts` |
# | --- | --- | --- | --- |
# | `policy` | required | Networks of actor and critic, from a name | `policy=make_policy(obs_space, act_space)`, `critic=make_critic(obs_space)` |
# | `policy_kwargs` | `None` | `net_arch`, `activation_fn`, `log_std_init` of the networks | `hidden_sizes`, `activation`, `initial_std` = exp(`log_std_init`) of `make_policy` |
# | `target_kl` | 0.01 | Size of the trust region, in nats *per action component* | `max_kl` = $K$ × `target_kl`, see below |
# | `cg_damping` | 0.1 | Added to the Fisher matrix's diagonal. Larger: closer to the plain gradient | `cg_damping` = $K$ × `cg_damping`, see below |
# | `cg_max_steps` | 15 | Most products of conjugate gradient. More: a more exact direction | `cg_iters`, with `preconditioner=None, cg_tolerance=0` |
# | `line_search_shrinking_factor` | 0.8 | Factor between candidates of the line search | `backtrack_coeff` |
# | `line_search_max_iter` | 10 | Candidates before the search gives up | `max_backtracks` |
# | `n_steps` | 2048 | Steps of *each* environment per update. More: less noise, rarer updates | `collection_step_num_env_steps` of the trainer = `n_steps` × environments |
# | `gamma` | 0.99 | Discount. Rewards further ahead than about $1/(1-\gamma)$ steps hardly count | `gamma` |
# | `gae_lambda` | 0.95 | $\lambda$. Lower trusts the critic more: less variance, more bias | `gae_lambda` |
# | `normalize_advantage` | `True` | Centre and scale the advantages over the rollout | `advantage_normalization` |
# | `learning_rate` | 1e-3 | Of the critic's Adam only: the policy has no learning rate | `optim=AdamOptimizerFactory(lr=...)` |
# | `n_critic_updates` | 10 | Passes of the critic over the rollout | `critic_fit=MinibatchFit(epochs=..., batch_size=...)` |
# | `batch_size` | 128 | Minibatch of the critic only | the same |
# | `sub_sampling_factor` | 1 | Keep every k-th row for the whole policy step, to save time | `fisher_subsampling` = 1/k thins the Fisher matrix only |
# | `use_sde`, `sde_sample_freq` | `False`, -1 | Noise that depends on the state and is held for some steps | `make_policy(..., distribution="gsde", noise_steps=...)` |
# | `rollout_buffer_class`, `rollout_buffer_kwargs` | `None` | Where the rollout is kept | the collector's `VectorReplayBuffer` |
# | `tensorboard_log` | `None` | Folder of the event files | `logger=tensorboard_logger(folder)` of the trainer |
# | `stats_window_size` | 100 | Episodes in the logged mean return | none: each update logs the episodes that ended in it |
# | `verbose` | 0 | What is printed | `verbose`, `show_progress` of the trainer |
# | `seed` | `None` | Of networks, actions and environments | `torch.manual_seed`, `np.random.seed`, `envs.seed` |
# | `device` | `"auto"` | Where the networks are | `policy.to(device)`, `critic.to(device)` |
# | `env` | required | One environment or several | the collector's environments |
#
# **The two that you cannot copy.** SB3-contrib takes the mean of the KL divergence over rows *and over the components of
# a Gaussian action*. The joint divergence is the sum over the components, so it is $K$ times as large. SB3's Fisher
# matrix is therefore $F / K$, and
#
# $$\left(\tfrac1K F + c I\right) x = g \qquad\Longleftrightarrow\qquad \left(F + K c I\right) \tfrac{x}{K} = g$$
#
# With `target_kl=0.01` and six action components the policy may move by 0.06 nats, with six times the damping. The
# same holds for MultiBinary actions. For Discrete and MultiDiscrete ones SB3 sums, and the numbers are the same in both.
# SB3 also bounds the divergence from the new policy to the old one; to second order that is the same number.
#
# This function converts the settings. A test of the package takes one step with SB3-contrib and one with these
# settings, and compares them.

# %%
from typing import Any

from trpo_ts.critics import MinibatchFit


def settings_of_sb3(
    action_space: gym.Space,
    *,
    target_kl: float = 0.01,
    cg_damping: float = 0.1,
    cg_max_steps: int = 15,
    n_critic_updates: int = 10,
    batch_size: int = 128,
) -> dict[str, Any]:
    """Return the arguments of ``trpo_ts.TRPO`` that take the policy step of SB3-contrib with its settings."""
    averaged = isinstance(action_space, gym.spaces.Box | gym.spaces.MultiBinary)
    components = int(np.prod(action_space.shape)) if averaged else 1
    return {
        "max_kl": components * target_kl,
        "cg_damping": components * cg_damping,
        "cg_iters": cg_max_steps,
        "preconditioner": None,
        "cg_tolerance": 0.0,
        "critic_fit": MinibatchFit(epochs=n_critic_updates, batch_size=batch_size),
    }


settings_of_sb3(gym.spaces.Box(-1.0, 1.0, (6,)))

# %% [markdown]
# ### The original Stable-Baselines
#
# | Stable-Baselines | Default | What it does | `trpo_ts` |
# | --- | --- | --- | --- |
# | `gamma` | 0.99 | Discount | `gamma` |
# | `timesteps_per_batch` | 1024 | Environment steps per update | `collection_step_num_env_steps` |
# | `max_kl` | 0.01 | Size of the trust region, joint divergence | `max_kl` |
# | `cg_iters` | 10 | Products of conjugate gradient | `cg_iters`, with `preconditioner=None, cg_tolerance=0` |
# | `lam` | 0.98 | $\lambda$ of the advantages | `gae_lambda` |
# | `entcoeff` | 0.0 | Weight of the entropy. Larger: more exploration | `ent_coef` |
# | `cg_damping` | 0.01 | Damping | `cg_damping` |
# | `vf_stepsize` | 3e-4 | Learning rate of the critic | `optim=AdamOptimizerFactory(lr=3e-4)` |
# | `vf_iters` | 3 | Passes of the critic, in minibatches of 128 | `critic_fit=MinibatchFit(epochs=3, batch_size=128)` |
# | `tensorboard_log`, `full_tensorboard_log` | `None`, `False` | Event files; also of weights and gradients | `logger=tensorboard_logger(folder)` |
# | `policy_kwargs` | `None` | Arguments of the networks | those of `make_policy` and `make_critic` |
# | `seed` | `None` | Random numbers | `torch.manual_seed`, `np.random.seed`, `envs.seed` |
# | `n_cpu_tf_sess` | all | Threads of TensorFlow | `torch.set_num_threads` |
#
# ### Tuning
#
# * `max_kl` first, in factors of two. Larger learns faster while *achieved* follows *expected* in the panel of the
#   surrogate; smaller is steadier.
# * More steps per update if the line search fails often, or if returns jump.
# * More damping if steps become unstable; less, or `full_budget=True`, if the KL stays far below `max_kl`.
# * The critic, if the explained variance stays low.
#
# [parameters.md](../docs/parameters.md) has them all.
#
# ## Where next
#
# * [`tianshou_swap.ipynb`](tianshou_swap.ipynb) puts TRPO into a Tianshou pipeline.
# * [`failing_runs.ipynb`](failing_runs.ipynb) reads the statistics of runs that go wrong.
# * [`own_loop.py`](own_loop.py) is the loop of section 6 for every gymnasium task.
# * [trpo.md](../docs/trpo.md) has the equations of the package, and each deviation from the paper.
