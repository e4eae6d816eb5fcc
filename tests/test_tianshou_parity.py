"""The same batch through Tianshou's own TRPO and NPG, and through these."""

from __future__ import annotations

import copy
import inspect
import warnings

import pytest
import tianshou.algorithm as tianshou
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, update
from tianshou.algorithm.modelfree import npg as tianshou_npg
from tianshou.algorithm.modelfree import trpo as tianshou_trpo
from tianshou.algorithm.optim import AdamOptimizerFactory

import trpo_ts

PAIRS = [(trpo_ts.TRPO, tianshou.TRPO), (trpo_ts.NPG, tianshou.NPG)]


def both(ours, theirs, discrete, dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    policy = make_actor_policy(discrete, hidden=(16, 16), dtype=dtype)
    critic = Mlp((OBS_DIM, 16, 1)).to(dtype)
    buffer = make_rollout(policy, 8, 32)
    algorithms = [
        kind(
            policy=copy.deepcopy(policy),
            critic=copy.deepcopy(critic),
            optim=AdamOptimizerFactory(lr=1e-2),
            **kwargs,
            **extra,
        )
        for kind, extra in ((ours, {"cg_tolerance": 0.0, "preconditioner": None}), (theirs, {}))
    ]
    return algorithms, buffer


@pytest.fixture(autouse=True)
def _mathematics_only(monkeypatch):
    """Take out what keeps Tianshou from float64 precision: a cast of its ratios to float32, and a residual
    tolerance that is absolute, so that it ends some solves early.
    """
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    monkeypatch.setattr(tianshou.NPG._conjugate_gradients, "__defaults__", (10, 0.0))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_signature_begins_with_tianshous(ours, theirs):
    mine, original = (inspect.signature(kind.__init__).parameters for kind in (ours, theirs))
    names = list(original)
    assert list(mine)[: len(names)] == names
    for name in names:
        assert mine[name].default == original[name].default
        assert mine[name].kind == original[name].kind
    assert all(p.default is not p.empty for name, p in mine.items() if name not in names)


def test_stats_are_tianshous_too():
    assert issubclass(trpo_ts.TRPO, trpo_ts.NPG)
    assert issubclass(trpo_ts.TRPOTrainingStats, trpo_ts.NPGTrainingStats)
    assert issubclass(trpo_ts.TRPOTrainingStats, tianshou_trpo.TRPOTrainingStats)
    assert issubclass(trpo_ts.NPGTrainingStats, tianshou_npg.NPGTrainingStats)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("return_scaling", [False, True])
@pytest.mark.parametrize("advantage_normalization", [False, True])
def test_one_update_equals_tianshous(ours, theirs, discrete, return_scaling, advantage_normalization):
    algorithms, buffer = both(
        ours,
        theirs,
        discrete,
        return_scaling=return_scaling,
        advantage_normalization=advantage_normalization,
        optim_critic_iters=3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, original = (update(algorithm, buffer) for algorithm in algorithms)
    for (name, p), q in zip(algorithms[0].named_parameters(), algorithms[1].parameters(), strict=True):
        if name.startswith("policy") or not return_scaling:  # the critic's targets have a unit of their own here
            torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")
    assert mine.kl.mean == pytest.approx(original.kl.mean, rel=1e-8)
    if not return_scaling:
        assert mine.vf_loss.mean == pytest.approx(original.vf_loss.mean, rel=1e-9)
    if ours is trpo_ts.TRPO:
        assert mine.step_size.mean == pytest.approx(original.step_size.mean, rel=1e-8)
    if return_scaling:
        assert algorithms[0].ret_rms.var == pytest.approx(algorithms[1].ret_rms.var, rel=1e-12)


def test_backtracking_step_equals_tianshous():
    """A large budget on few samples, so that the full step overshoots."""
    torch.manual_seed(3)
    policy = make_actor_policy(hidden=(16,), dtype=torch.float64, log_std=-2.0)
    critic = Mlp((OBS_DIM, 4, 1)).double()
    buffer = make_rollout(policy, 2, 10, seed=1)
    results = []
    for kind, extra in ((trpo_ts.TRPO, {"cg_tolerance": 0.0, "preconditioner": None}), (tianshou.TRPO, {})):
        algorithm = kind(
            policy=copy.deepcopy(policy),
            critic=copy.deepcopy(critic),
            optim=AdamOptimizerFactory(),
            max_kl=0.5,
            **extra,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.append((update(algorithm, buffer), algorithm))
    (mine, ours), (original, theirs) = results
    assert mine.backtracks > 0
    assert mine.step_size.mean == pytest.approx(original.step_size.mean, rel=1e-8)
    for p, q in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-9)


def test_several_updates_in_float32_stay_together():
    algorithms, buffer = both(*PAIRS[0], False, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            for algorithm in algorithms:
                update(algorithm, buffer)
    for p, q in zip(algorithms[0].parameters(), algorithms[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=1e-3)
