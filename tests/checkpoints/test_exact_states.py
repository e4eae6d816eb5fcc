"""The state of a learner: noise that is held, versions of modules, moments by their parameters, and no half of it."""

from __future__ import annotations

import copy
import io
from collections import Counter, OrderedDict
from functools import partial

import numpy as np
import pytest
import runs
import tianshou.algorithm as tianshou
import torch
from gymnasium import spaces
from resumable import run_until, trainer_of
from rollouts import ACT_DIM, OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from runs import bits
from tianshou.algorithm.optim import AdamOptimizerFactory
from torch import nn

from trpo_ts.checkpoints import load_checkpoint, save_checkpoint
from trpo_ts.policies import make_policy
from trpo_ts.state_dict import plain


def test_a_run_with_held_noise_goes_on_with_it(tmp_path, monkeypatch):
    """Eight samples per rollout, noise for five: the second rollout begins with noise that is three samples old."""
    monkeypatch.setattr(runs, "make_policy", partial(make_policy, distribution="gsde", noise_steps=5))
    whole = trainer_of(tmp_path / "whole", tests=False)
    whole.run()
    stopped = run_until(tmp_path / "stopped", 2, tests=False)
    assert stopped.algorithm.policy.dist_fn._age == 1  # sixteen samples: of the fourth noise, the first
    resumed = trainer_of(tmp_path / "stopped", seed=9, tests=False)
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(whole.algorithm.state_dict()))


def gsde(**kwargs):
    space = spaces.Box(-1.0, 1.0, (OBS_DIM,), np.float32)
    return make_policy(space, spaces.Box(-np.inf, np.inf, (2,)), distribution="gsde", **kwargs)


def samples(policy, count):
    torch.manual_seed(3)
    with torch.no_grad():
        return [policy.dist_fn(torch.ones(4, 64)).sample() for _ in range(count)]


def test_noise_is_part_of_the_state_and_older_states_are_loaded_without_it():
    policy, other = gsde(noise_steps=4), gsde(noise_steps=4)
    samples(policy, 3)
    state = policy.state_dict()
    assert state["dist_fn._extra_state"]["age"] == 3
    other.load_state_dict(state)
    assert bits(samples(policy, 2)) == bits(samples(other, 2))  # one more of the old noise, then of the new
    del state["dist_fn._extra_state"]
    assert not other.load_state_dict(state).missing_keys
    assert other.dist_fn._age == len(other.dist_fn._noise) == 0


@pytest.mark.parametrize("state", [{"noise": torch.zeros(4, 3, 2), "age": 1}, {"noise": 3, "age": 1}])
def test_noise_of_another_shape_is_refused(state):
    policy = gsde()
    with pytest.raises(ValueError, match="noise must be a tensor of shape"):
        policy.load_state_dict({**policy.state_dict(), "dist_fn._extra_state": state})


class Versioned(nn.Linear):
    """A layer whose first version kept its weights in halves."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get("version", 1) < 2:
            state_dict[f"{prefix}weight"] = 2 * state_dict[f"{prefix}weight"]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def versioned():
    torch.manual_seed(0)
    return make_trpo(make_actor_policy(), nn.Sequential(Mlp((OBS_DIM, 4)), Versioned(4, 1)))


def through_torch(state):
    file = io.BytesIO()
    torch.save(plain(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("through", [lambda state: state, copy.deepcopy, through_torch])
def test_the_versions_of_modules_are_kept(through):
    algorithm, other = versioned(), versioned()
    other.load_state_dict(through(algorithm.state_dict()))
    assert same(parameters_of(algorithm), other)
    first = OrderedDict(algorithm.state_dict())  # without versions, as the first version wrote it
    other.load_state_dict(first)
    assert torch.equal(other.critic[1].weight, 2 * algorithm.critic[1].weight)


def test_checkpoints_hold_the_versions_of_modules(tmp_path):
    algorithm, other = versioned(), versioned()
    load_checkpoint(save_checkpoint(tmp_path / "a.ckpt", algorithm=algorithm), algorithm=other)
    assert same(parameters_of(algorithm), other)


def test_the_milestones_of_a_schedule_stay_what_they_are():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=np.float64(1.0))
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4, 4])
    state = plain(schedule.state_dict())
    assert type(state["milestones"]) is Counter
    assert sorted(state["milestones"].elements()) == [2, 4, 4]
    assert type(state["_last_lr"][0]) is float


def test_assign_is_refused_before_anything_changes():
    algorithm = make_trpo(make_actor_policy(), Mlp((OBS_DIM, 8, 1)))
    state = copy.deepcopy(algorithm.state_dict())
    for value in state.values():
        if isinstance(value, torch.Tensor):
            value += 1.0
    before = parameters_of(algorithm)
    parameters = list(algorithm.parameters())
    with pytest.raises(ValueError, match="assign must be False, got True: the optimiser would go on with"):
        algorithm.load_state_dict(state, assign=True)
    assert same(before, algorithm)
    assert all(a is b for a, b in zip(parameters, algorithm.parameters(), strict=True))


def with_shared_trunk():
    policy = make_actor_policy()
    # The shared parameters are in the middle of the critic's.
    critic = nn.Sequential(Mlp((OBS_DIM, OBS_DIM)), policy.actor.body, nn.Linear(ACT_DIM, 1))
    return {"policy": policy, "critic": critic, "optim": AdamOptimizerFactory(lr=1e-2)}


def test_a_state_of_tianshous_with_a_shared_trunk_is_loaded_moment_by_moment():
    torch.manual_seed(1)
    theirs = tianshou.TRPO(**with_shared_trunk())
    update(theirs, make_rollout(theirs.policy))
    algorithm = make_trpo(**with_shared_trunk())
    algorithm.load_state_dict(theirs.state_dict())
    assert same(parameters_of(theirs), algorithm)
    moments = theirs.optim._optim.state
    own = algorithm.optim._optim
    pairs = list(zip(theirs.critic.parameters(), algorithm.critic.parameters(), strict=True))
    trunk = set(map(id, algorithm.policy.parameters()))
    assert [id(p) in trunk for _, p in pairs] == [False] * 2 + [True] * 4 + [False] * 2
    for there, here in pairs:
        assert (here in own.state) == (id(here) not in trunk)
        if here in own.state:
            assert bits(own.state[here]) == bits(moments[there])
    assert own.param_groups[0]["lr"] == 1e-2
    before = parameters_of(algorithm)
    update(algorithm, make_rollout(algorithm.policy, seed=1))
    assert not same(before, algorithm)


def other_shape(state):
    state["state"][0]["exp_avg"] = torch.zeros(2, 2)


def of_a_parameter_that_is_not_there(state):
    state["state"][99] = state["state"][0]


def fewer_parameters(state):
    state["param_groups"][0]["params"].pop()


def two_optimisers(state):
    return [state, state]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_shape, r"exp_avg of the optimiser's parameter 0 must be of shape \(8, 3\), got \(2, 2\)"),
        (of_a_parameter_that_is_not_there, "the optimiser must have 4 parameters, got the state of number 99"),
        (fewer_parameters, "parameter group"),
        (two_optimisers, r"state_dict must hold 1 optimiser\(s\), got 2"),
    ],
)
def test_an_optimisers_state_that_does_not_fit_is_refused_and_nothing_changes(spoil, said):
    algorithm = make_trpo(make_actor_policy(), Mlp((OBS_DIM, 8, 1)))
    update(algorithm, make_rollout(algorithm.policy))
    state = copy.deepcopy(algorithm.state_dict())
    state["_optimizers"] = spoil(state["_optimizers"][0]) or state["_optimizers"]
    before = bits(dict(algorithm.state_dict()))
    with pytest.raises(ValueError, match=said):
        algorithm.load_state_dict(state)
    assert bits(dict(algorithm.state_dict())) == before
