"""The conversion of SB3-contrib's settings in the teaching notebook takes SB3-contrib's own step."""

from __future__ import annotations

import ast
import copy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from repository import ROOT
from torch import nn
from torch.distributions import Independent, kl_divergence

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.critics import MinibatchFit
from trpo_ts.solver import PolicyProblem, damped, trust_region_update

sb3_contrib = pytest.importorskip("sb3_contrib")

COMPONENTS = 3


class Targets(gym.Env):
    """Actions near the first observations are better; episodes last 16 steps."""

    observation_space = gym.spaces.Box(-2.0, 2.0, (4,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (COMPONENTS,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.obs = 0, self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return self.obs, {}

    def step(self, action):
        reward = -float(np.square(action - self.obs[:COMPONENTS]).sum())
        self.steps, self.obs = self.steps + 1, self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return self.obs, reward, False, self.steps >= 16, {}


class Joint(nn.Module):
    """The policy of SB3 as a module that returns one joint distribution for each row."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, obs):
        return Independent(self.policy.get_distribution(obs).distribution, 1)


@pytest.fixture(scope="module")
def settings_of_sb3():
    """The function of the notebook, from its script, without the rest of it."""
    tree = ast.parse((ROOT / "examples" / "trpo_from_scratch.py").read_text())
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "settings_of_sb3")
    scope = {"gym": gym, "np": np, "Any": Any, "MinibatchFit": MinibatchFit}
    exec(compile(ast.Module([function], []), "settings_of_sb3", "exec"), scope)
    return scope["settings_of_sb3"]


@pytest.fixture
def model():
    """SB3's TRPO before its first update, with a rollout in its buffer."""
    with torch.random.fork_rng():
        model = sb3_contrib.TRPO("MlpPolicy", Targets(), n_steps=256, seed=0, device="cpu")
        _, callback = model._setup_learn(256)
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 256)
    return model


def rollout_of(model):
    (rows,) = model.rollout_buffer.get(batch_size=None)
    adv = (rows.advantages - rows.advantages.mean()) / (rows.advantages.std() + 1e-8)
    return rows.observations, rows.actions, adv


def parameters_of(policy):
    """Return those of the actor, as one vector."""
    return torch.cat([p.detach().flatten() for name, p in policy.named_parameters() if "value" not in name])


def test_sb3_averages_the_divergence_over_action_components(model):
    sb3_kl = pytest.importorskip("stable_baselines3.common.distributions").kl_divergence
    obs, _, _ = rollout_of(model)
    other = copy.deepcopy(model.policy)
    with torch.no_grad():
        other.log_std += 0.1
        old, new = model.policy.get_distribution(obs), other.get_distribution(obs)
        theirs = sb3_kl(old, new).mean()
        joint = kl_divergence(Independent(old.distribution, 1), Independent(new.distribution, 1)).mean()
    assert float(theirs) * COMPONENTS == pytest.approx(float(joint), rel=1e-5)


def test_the_damped_fisher_products_of_sb3_are_ours_divided_by_the_components(seeded, model, settings_of_sb3):
    obs, act, adv = rollout_of(model)
    module = Joint(model.policy)
    problem, start = PolicyProblem.of_rollout(
        RowFunction(module, lambda rows: (obs[rows],), len(obs)), act=act, adv=adv
    )
    ours = damped(problem.linearise(start).fisher, settings_of_sb3(Targets.action_space)["cg_damping"])

    distribution, old = model.policy.get_distribution(obs), copy.copy(model.policy.get_distribution(obs))
    old.distribution = torch.distributions.Normal(old.distribution.mean.detach(), old.distribution.stddev.detach())
    kl = kl_divergence(distribution.distribution, old.distribution).mean()
    objective = (distribution.log_prob(act).exp() * adv).mean()
    parameters, _, grad_kl, _ = model._compute_actor_grad(kl, objective)
    theirs = partial(model.hessian_vector_product, parameters, grad_kl)

    names = {id(p): name for name, p in module.named_parameters()}
    vectors = {name: torch.randn_like(p) for name, p in module.named_parameters()}
    v = torch.cat([vectors[names[id(p)]].flatten() for p in parameters])
    everything = torch.cat([vector.flatten() for vector in vectors.values()])
    product = dict(zip(vectors, ours(everything).split([p.numel() for p in module.parameters()]), strict=True))
    expected = torch.cat([product[names[id(p)]] for p in parameters]) / COMPONENTS
    torch.testing.assert_close(theirs(v), expected, rtol=1e-3, atol=1e-4)


def step_of_sb3(model):
    """Return the change of the actor's parameters in SB3's own update."""
    before = parameters_of(model.policy)
    model.train()
    return parameters_of(model.policy) - before


def step_of_ours(model, **settings):
    module = Joint(copy.deepcopy(model.policy))
    before = parameters_of(module.policy)
    assert trust_region_update(module, *rollout_of(model), **settings).accepted
    return parameters_of(module.policy) - before


def test_one_step_with_the_converted_settings_is_sb3s_step(model, settings_of_sb3):
    converted = settings_of_sb3(Targets.action_space)
    del converted["critic_fit"]
    ours = step_of_ours(model, **converted)
    copied = step_of_ours(model, **(converted | {"max_kl": 0.01, "cg_damping": 0.1}))
    theirs = step_of_sb3(model)
    assert (ours - theirs).norm() < 0.01 * theirs.norm()  # SB3 computes in float32
    assert (copied - theirs).norm() > 0.2 * theirs.norm()
