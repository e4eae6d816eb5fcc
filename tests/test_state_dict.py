"""State: everything that changes a later update is saved, and loading is safe."""

from __future__ import annotations

import copy
import io

import pytest
import tianshou.algorithm as tianshou
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear


def scheduled() -> AdamOptimizerFactory:
    return AdamOptimizerFactory(lr=1e-2).with_lr_scheduler_factory(
        LRSchedulerFactoryLinear(max_epochs=2, epoch_num_steps=100, collection_step_num_env_steps=10)
    )


def build(**kwargs):
    torch.manual_seed(0)
    return make_trpo(make_actor_policy(), Mlp((OBS_DIM, 8, 1)), optim=scheduled(), return_scaling=True, **kwargs)


def trained(updates=3):
    algorithm = build()
    for seed in range(updates):
        update(algorithm, make_rollout(algorithm.policy, seed=seed))
    return algorithm


def through_a_safe_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_loaded_algorithm_continues_bit_for_bit():
    algorithm = trained()
    resumed = build()
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1.0)
    resumed.load_state_dict(through_a_safe_file(algorithm.state_dict()))
    assert resumed.ret_rms.var == algorithm.ret_rms.var
    for _ in range(3):
        buffer = make_rollout(algorithm.policy, seed=9)
        stats = [update(a, buffer) for a in (algorithm, resumed)]
        assert same(parameters_of(algorithm), resumed)
        assert stats[0].vf_loss == stats[1].vf_loss
    assert algorithm.lr_schedulers[0].get_last_lr() == resumed.lr_schedulers[0].get_last_lr()


def test_loading_leaves_the_callers_dict_untouched_now_and_later():
    state = copy.deepcopy(trained().state_dict())
    reference = copy.deepcopy(state)
    algorithm = build()
    algorithm.load_state_dict(state)
    update(algorithm, make_rollout(algorithm.policy))
    assert list(state) == list(reference)
    torch.testing.assert_close(state, reference, rtol=0, atol=0)


def test_plain_tianshou_state_is_accepted():
    torch.manual_seed(1)
    policy, critic = make_actor_policy(), Mlp((OBS_DIM, 8, 1))
    theirs = tianshou.TRPO(policy=policy, critic=critic, optim=scheduled(), return_scaling=True)
    update(theirs, make_rollout(policy))
    algorithm = trained()
    statistics = algorithm.ret_rms.var
    algorithm.load_state_dict(theirs.state_dict())
    assert same(parameters_of(theirs), algorithm)
    assert algorithm.ret_rms.var == statistics
    moments = algorithm.optim.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, theirs.optim.state_dict()["state"][0]["exp_avg"])


def fewer_schedules(state):
    state["_extra_state"]["lr_schedulers"] = []


def no_optimizers(state):
    del state["_optimizers"]


def other_shape(state):
    key = next(key for key in state if key.startswith("critic"))
    state[key] = torch.zeros(1)


def missing_parameter(state):
    del state[next(key for key in state if key.startswith("policy"))]


@pytest.mark.parametrize("spoil", [fewer_schedules, no_optimizers, other_shape, missing_parameter])
def test_failed_load_is_an_error_and_changes_nothing(spoil):
    state = copy.deepcopy(trained().state_dict())
    spoil(state)
    algorithm = build()
    update(algorithm, make_rollout(algorithm.policy, seed=5))
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises((ValueError, RuntimeError)):
        algorithm.load_state_dict(state)
    torch.testing.assert_close(algorithm.state_dict(), before, rtol=0, atol=0)


def test_policy_state_instead_of_the_algorithms_is_named():
    algorithm = build()
    with pytest.raises(ValueError, match=r"state_dict must hold '_optimizers'.*save algorithm.state_dict\(\)"):
        algorithm.load_state_dict(algorithm.policy.state_dict())


def test_algorithm_can_be_copied():
    algorithm = trained()
    twin = copy.deepcopy(algorithm)
    buffer = make_rollout(algorithm.policy, seed=3)
    update(algorithm, buffer)
    update(twin, buffer)
    assert same(parameters_of(algorithm), twin)
