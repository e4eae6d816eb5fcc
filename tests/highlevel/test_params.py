"""Parameters of the high-level API."""

from __future__ import annotations

import math
from dataclasses import fields
from inspect import Parameter, signature

import numpy as np
import pytest
import torch
from experiments import BUILDERS, algorithms, make_builder, training
from tianshou.highlevel.params import algorithm_params
from tianshou.highlevel.params.lr_scheduler import LRSchedulerFactoryFactoryLinear
from tianshou.highlevel.params.optim import OptimizerFactoryFactoryRMSprop

from trpo_ts import KFAC, NPG, TRPO
from trpo_ts.critics import GaussNewtonFit
from trpo_ts.highlevel import TRPOParams


@algorithms
def test_every_constructor_parameter_is_a_field_with_the_same_default(algorithm):
    params = BUILDERS[algorithm][1]
    defaults = {f.name: f.default for f in fields(params)}
    for name, parameter in signature(algorithm).parameters.items():
        if name in ("policy", "critic", "optim"):
            continue
        assert parameter.default is not Parameter.empty
        assert defaults[name] == parameter.default, name
        assert type(defaults[name]) is type(parameter.default), name


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # no step of the optimiser is taken
def test_every_value_reaches_policy_optimiser_and_algorithm():
    config = training()
    values = {
        "max_kl": 0.02,
        "backtrack_coeff": 0.7,
        "max_backtracks": 7,
        "full_budget": True,
        "optim_critic_iters": 3,
        "trust_region_size": 0.4,
        "advantage_normalization": False,
        "gae_lambda": 0.9,
        "max_batchsize": 100,
        "gamma": 0.9,
        "return_scaling": True,
        "cg_iters": 5,
        "cg_damping": 0.2,
        "cg_tolerance": 0.1,
        "preconditioner": KFAC(samples=100),
        "fisher_subsampling": 0.5,
        "ent_coef": 0.01,
        "critic_fit": GaussNewtonFit(steps=2),
        "micro_batch_size": 50,
    }
    assert values.keys() == signature(TRPO).parameters.keys() - {"policy", "critic", "optim"}
    params = TRPOParams(
        lr=0.02,
        lr_scheduler=LRSchedulerFactoryFactoryLinear(config),
        optim=OptimizerFactoryFactoryRMSprop(),
        deterministic_eval=True,
        action_bound_method="tanh",
        **values,
    )
    world = make_builder(params=params).build().create_experiment_world()
    for name, value in values.items():
        assert getattr(world.algorithm, name) == value, name
    optimizer = world.algorithm.optim._optim
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert len(world.algorithm.lr_schedulers) == 1
    assert world.algorithm.policy.deterministic_eval
    assert world.algorithm.policy.action_bound_method == "tanh"
    assert world.trainer.run().train_step == 800


BAD_VALUES = {
    "max_kl": 0.0,
    "backtrack_coeff": 1.0,
    "max_backtracks": 0,
    "full_budget": 2,
    "optim_critic_iters": -1,
    "trust_region_size": 0.0,
    "advantage_normalization": "yes",
    "gae_lambda": 1.1,
    "max_batchsize": 0,
    "gamma": math.nan,
    "return_scaling": "no",
    "cg_iters": 0,
    "cg_damping": -0.1,
    "cg_tolerance": 1.0,
    "preconditioner": "kfac",
    "fisher_subsampling": 0.0,
    "ent_coef": -1.0,
    "critic_fit": GaussNewtonFit,
    "micro_batch_size": 0,
    "lr": -1e-3,
    "lr_scheduler": "linear",
    "optim": torch.optim.Adam,
    "deterministic_eval": "yes",
    "action_scaling": "yes",
    "action_bound_method": "sigmoid",
}


def test_every_field_has_a_bad_value_below():
    assert BAD_VALUES.keys() == {f.name for f in fields(TRPOParams)}


@pytest.mark.parametrize(
    ("algorithm", "name"), [(a, f.name) for a, (_, params) in BUILDERS.items() for f in fields(params)]
)
def test_bad_value_is_an_error_at_build_time_that_names_it(algorithm, name):
    kind = BUILDERS[algorithm][1]
    builder = make_builder(algorithm, kind(**{name: BAD_VALUES[name]}))
    with pytest.raises(ValueError, match=f"^{name} must be"):
        builder.build()


def test_parameters_of_another_algorithm_are_refused():
    with pytest.raises(ValueError, match=r"params must be NPGParams, got TRPOParams with .*max_kl"):
        make_builder(NPG, TRPOParams()).build()
    with pytest.raises(ValueError, match=r"params must be a NPGParams, got A2CParams; for example TRPOParams\(\)"):
        make_builder(TRPO, algorithm_params.A2CParams()).build()


def test_tianshous_own_parameters_are_taken():
    params = algorithm_params.TRPOParams(max_kl=0.03, return_scaling=True)
    algorithm = make_builder(params=params).build().create_experiment_world().algorithm
    assert (algorithm.max_kl, algorithm.return_scaling, algorithm.cg_tolerance) == (0.03, True, 0.9)


def test_build_draws_no_random_number():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make_builder().build()
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002
