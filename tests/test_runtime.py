"""What an update changes in torch while it runs, and puts back."""

from __future__ import annotations

import contextlib
import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from rollouts import OBS_DIM, Mlp, make_actor_policy, make_rollout, make_trpo, parameters_of, update
from torch import nn
from torch.distributions import Distribution

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.runtime import twice_differentiable, update_context


@pytest.mark.parametrize("flash", [True, False])
def test_attention_gets_a_kernel_that_can_be_differentiated_twice_and_settings_stay(flash):
    def settings():
        cuda = torch.backends.cuda
        return (
            cuda.math_sdp_enabled(),
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.cudnn_sdp_enabled(),
        )

    outside = settings()
    torch.backends.cuda.enable_flash_sdp(flash)
    try:
        before = settings()
        with contextlib.suppress(ZeroDivisionError), twice_differentiable(Mlp((2, 3, 1))):
            assert settings() == (True, False, False, False)
            raise ZeroDivisionError
        assert settings() == before
    finally:
        torch.backends.cuda.enable_flash_sdp(outside[1])


def test_recurrent_layers_get_a_kernel_that_can_be_differentiated_twice_and_settings_stay():
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with twice_differentiable(nn.ModuleList([nn.GRU(2, 3)])):
        assert not torch.backends.cudnn.enabled
    with twice_differentiable(Mlp((2, 3, 1))):
        assert torch.backends.cudnn.enabled == before[0]
    after = torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    assert after == before


def switches() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    return (
        Distribution._validate_args,
        cuda.math_sdp_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
    )


DURING = (False, True, False, False, False)


def test_nested_and_failing_contexts_put_everything_back():
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    outside = switches()
    with update_context(network):
        assert switches() == DURING
        assert "forward" in vars(network)
        with contextlib.suppress(ZeroDivisionError), update_context(network, nn.Linear(2, 1)):
            network.eval()
            raise ZeroDivisionError
        assert switches() == DURING
        assert "forward" in vars(network)
        assert not network.training  # the outer context puts the mode back
    assert switches() == outside
    assert network.training
    assert network[0].training
    assert "forward" not in vars(network)


def test_of_contexts_that_overlap_the_last_one_to_leave_restores_the_switches():
    outside = switches()
    first, second = update_context(Mlp((2, 1))), update_context(Mlp((2, 1)))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert switches() == DURING
    second.__exit__(None, None, None)
    assert switches() == outside


def test_updates_in_several_threads_equal_updates_one_after_another():
    outside = switches()
    torch.manual_seed(0)
    policies = [make_actor_policy(discrete=i % 2 == 0, hidden=(16,)) for i in range(6)]
    critics = [Mlp((OBS_DIM, 8, 1)) for _ in policies]
    buffers = [make_rollout(policy, n_envs=4, length=64, seed=i) for i, policy in enumerate(policies)]

    def trained(workers: int) -> list[list[torch.Tensor]]:
        algorithms = [
            make_trpo(copy.deepcopy(policy), copy.deepcopy(critic), critic_fit=GaussNewtonFit())
            for policy, critic in zip(policies, critics, strict=True)
        ]
        with ThreadPoolExecutor(workers) as pool:
            stats = list(pool.map(lambda pair: update(*pair, None, 3), zip(algorithms, buffers, strict=True)))
        assert all(s.accepted == 1.0 for s in stats)
        return [parameters_of(algorithm) for algorithm in algorithms]

    for alone, together in zip(trained(1), trained(6), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert switches() == outside
