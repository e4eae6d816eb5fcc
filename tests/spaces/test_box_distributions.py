"""One update on every Box of actions with every distribution."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import update
from space_tasks import (
    BOX,
    DISTRIBUTIONS,
    VECTOR,
    assert_one_update_keeps_the_promises,
    distribution_of,
    distributions,
    env_of,
    train,
)
from torch import nn
from torch.distributions import kl_divergence

from trpo_ts import TRPO
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy
from trpo_ts.solver.problem import Point, PolicyProblem

HALF = spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 5.0], np.float32))
MIXED = spaces.Box(np.array([-1.0, -np.inf, 0.0], np.float32), np.array([4.0, np.inf, np.inf], np.float32))
BOXES = {
    "bounded": BOX,
    "unbounded": spaces.Box(-np.inf, np.inf, (2,)),
    "bounded below or above": HALF,
    "bounded in part": MIXED,
    "matrix": spaces.Box(-1, 2, (2, 3)),
    "number": spaces.Box(-1, 2, ()),
    "float64": spaces.Box(-1, 2, (2,), dtype=np.float64),
}


def with_bounds(name: str) -> bool:
    return DISTRIBUTIONS[name].get("distribution") in ("squashed_gaussian", "beta")


@pytest.mark.parametrize("box", BOXES)
@distributions
def test_one_update_on_every_box_of_actions_and_distribution(name: str, box: str):
    if with_bounds(name) and box in ("unbounded", "bounded below or above", "bounded in part"):
        with pytest.raises(ValueError, match=r"^action_space must be bounded on both sides for distribution="):
            make_policy(VECTOR, BOXES[box], **DISTRIBUTIONS[name])
        return
    torch.manual_seed(0)
    policy = make_policy(VECTOR, BOXES[box], **DISTRIBUTIONS[name])
    assert_one_update_keeps_the_promises(VECTOR, policy, make_critic(VECTOR))


@distributions
def test_log_probabilities_of_the_update_are_those_of_the_behaviour_policy(name: str, monkeypatch: pytest.MonkeyPatch):
    """Those of the distributions that the collector drew from, step by step, against those of the whole rollout."""
    torch.manual_seed(1)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name])
    acted: list[torch.Tensor] = []

    def note(module: Any, args: Any, result: Any) -> None:
        if len(result.act) == 8:  # one row is a look before collecting begins
            acted.append(result.dist.log_prob(result.act))

    policy.register_forward_hook(note)
    seen: list[torch.Tensor] = []
    own_problem = TRPO._problem

    def kept(self: TRPO, *args: Any) -> tuple[PolicyProblem, Point]:
        problem, start = own_problem(self, *args)
        seen.append(problem.logp_old)
        return problem, start

    monkeypatch.setattr(TRPO, "_problem", kept)
    train(lambda: env_of(VECTOR, BOX), policy, make_critic(VECTOR))
    by_environment = torch.stack(acted[:10], dim=1).flatten()  # the buffer holds one environment after another
    torch.testing.assert_close(seen[0].double(), by_environment.double(), rtol=0, atol=1e-5)


@distributions
@pytest.mark.parametrize("repeat", [1, 4])
def test_trust_region_holds_for_every_distribution(name: str, repeat: int):
    torch.manual_seed(2)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name])
    before = copy.deepcopy(policy)
    kwargs = {"max_kl": 0.05, "cg_damping": 1e-3, "repeat": repeat}
    _, _, rollout = train(lambda: env_of(VECTOR, BOX), policy, make_critic(VECTOR), **kwargs)
    kl = float(kl_divergence(distribution_of(before, rollout), distribution_of(policy, rollout)).mean())
    assert 0.001 < kl <= 0.05 * (1.0 + 1e-3)


@distributions
def test_float64_distributions_run_end_to_end(name: str):
    torch.manual_seed(6)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name]).double()
    assert_one_update_keeps_the_promises(VECTOR, policy, make_critic(VECTOR).double())


@distributions
def test_frozen_and_unused_parameters_stay(name: str):
    torch.manual_seed(7)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name])
    trunk = policy.actor if name == "gsde" else policy.actor.preprocess
    frozen = trunk.layers[0]
    frozen.requires_grad_(False)
    policy.unused = nn.Linear(2, 2)
    before = copy.deepcopy([frozen.state_dict(), policy.unused.state_dict()])
    assert_one_update_keeps_the_promises(VECTOR, policy, make_critic(VECTOR))
    torch.testing.assert_close([frozen.state_dict(), policy.unused.state_dict()], before, rtol=0, atol=0)


def test_an_update_leaves_the_held_noise_of_exploration_alone():
    torch.manual_seed(8)
    policy = make_policy(VECTOR, BOX, distribution="gsde", noise_steps=1000)
    algorithm, _, rollout = train(lambda: env_of(VECTOR, BOX), policy, make_critic(VECTOR))
    noise, state = policy.dist_fn._noise.clone(), torch.get_rng_state()
    update(algorithm, rollout, None, 2)
    assert torch.equal(noise, policy.dist_fn._noise)
    assert torch.equal(state, torch.get_rng_state())
