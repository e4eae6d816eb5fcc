"""Every constructor parameter out of its range is an error that names it, before anything is built."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from rollouts import OBS_DIM, Mlp, make_actor_policy
from tianshou.algorithm.optim import AdamOptimizerFactory

from trpo_ts import KFAC, NPG, TRPO
from trpo_ts.critics import OptimizerFit

BAD = {
    "max_kl": [0.0, -0.01, math.inf, math.nan, "0.01", None, True],
    "backtrack_coeff": [0.0, 1.0, 1.5, -0.5, math.nan, None],
    "max_backtracks": [0, -1, 2.5, "3", None, True],
    "optim_critic_iters": [-1, 1.5, None, False],
    "trust_region_size": [0.0, -1.0, math.nan, math.inf],
    "advantage_normalization": [None, 2, "yes"],
    "gae_lambda": [-0.1, 1.1, math.nan, None],
    "max_batchsize": [0, -5, 2.0, None],
    "gamma": [-0.01, 1.01, math.nan, "1"],
    "return_scaling": [None, -1, 0.5],
    "cg_iters": [0, -1, 1.0, None],
    "cg_damping": [-0.1, math.nan, math.inf, None],
    "cg_tolerance": [-1e-3, 1.0, math.nan, None],
    "preconditioner": ["kfac", KFAC, 3],
    "fisher_subsampling": [0.0, -0.1, 1.1, math.nan, None],
    "ent_coef": [-0.1, math.nan, math.inf, None],
    "critic_fit": ["gauss-newton", 3, OptimizerFit],
    "full_budget": [None, 2, "yes"],
    "micro_batch_size": [0, -1, 1.5, True],
    "policy": [None, Mlp((OBS_DIM, 1))],
    "critic": [None, lambda obs: obs],
    "optim": [None, AdamOptimizerFactory],
}


def build(kind=TRPO, **kwargs):
    arguments = {"policy": make_actor_policy(), "critic": Mlp((OBS_DIM, 1)), "optim": AdamOptimizerFactory()}
    return kind(**{**arguments, **kwargs})


def test_every_parameter_is_covered():
    assert set(BAD) == set(inspect.signature(TRPO.__init__).parameters) - {"self"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_value_is_refused_by_name(name, value):
    kinds = [TRPO, NPG] if name in inspect.signature(NPG.__init__).parameters else [TRPO]
    for kind in kinds:
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            build(kind, **{name: value})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"gamma": 0, "gae_lambda": 1}, {"gamma": 0.0, "gae_lambda": 1.0}),
        (
            {"max_kl": np.float32(0.25), "max_backtracks": np.int64(3)},
            {"max_kl": 0.25, "max_backtracks": 3},
        ),
        ({"optim_critic_iters": 0}, {"optim_critic_iters": 0}),
        (
            {"return_scaling": 1, "advantage_normalization": 0},
            {"return_scaling": True, "advantage_normalization": False},
        ),
        (
            {"cg_damping": 0, "cg_tolerance": 0, "ent_coef": 0},
            {"cg_damping": 0.0, "cg_tolerance": 0.0, "ent_coef": 0.0},
        ),
        ({"micro_batch_size": None}, {"micro_batch_size": None}),
        ({"micro_batch_size": np.uint8(16)}, {"micro_batch_size": 16}),
        ({"fisher_subsampling": 1}, {"fisher_subsampling": 1.0}),
    ],
)
def test_values_at_the_ends_of_their_ranges_are_kept_as_plain_numbers(given, kept):
    algorithm = build(**given)
    for name, value in kept.items():
        found = getattr(algorithm, name)
        assert (found, type(found)) == (value, type(value)), name


def test_positional_arguments_are_refused():
    with pytest.raises(TypeError):
        TRPO(make_actor_policy(), Mlp((OBS_DIM, 1)), AdamOptimizerFactory())
